"""Requests of which only the status counts, each within one deadline.

A time-out per read never meets a server that drips, and a body may have no end: it is left
unread. Redirects are not followed, and no proxy is used.
"""

import asyncio
from collections.abc import Mapping

import httpx


def status_of(
    method: str,
    url: str,
    *,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
    json: object = None,
) -> int:
    """The status that a server answers; each step may take `timeout_s`, and all twice that.

    Raises:
        httpx.HTTPError, TimeoutError: there is none.
        httpx.InvalidURL: nobody can be asked.
    """

    async def ask() -> int:
        async with (
            asyncio.timeout(2 * timeout_s),
            httpx.AsyncClient(timeout=timeout_s, follow_redirects=False, trust_env=False) as client,
            client.stream(method, url, headers=headers, json=json) as answer,
        ):
            return answer.status_code

    return asyncio.run(ask())
