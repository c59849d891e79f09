"""Fetching references from strangers' servers, within one deadline and one size.

httpcore is used without httpx's client on purpose: cookies, proxies, `.netrc`, redirects
and logging of whole URLs live there, and none of them may happen here. Connections go
through `address_guard`; decoding what came is `pillow_images`' business.
"""

import asyncio
import ssl
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

import anyio
import httpcore
import httpx

from assetgen_pipeline.adapters.address_guard import (
    BLOCKED,
    AddressGuard,
    Resolver,
    SystemResolver,
)
from assetgen_pipeline.domain.errors import ReferenceBlocked, ReferenceUnfetched
from assetgen_pipeline.domain.reference_url import Network, check_reference_url
from assetgen_pipeline.domain.references import FetchedBytes
from assetgen_pipeline.ports import ReferenceFetcher

_MIB = 1024 * 1024
_MAX_REDIRECTS = 3
_MAX_RETRY_AFTER_S = 60.0
_HTTPS_PORT = 443
_OK = 200
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRYABLE = frozenset({408, 429})
_SERVER_ERROR = 500
# One wording for whatever went wrong on the way, so that it tells nobody what is where.
_UNAVAILABLE = "the server gave no image"
# A timeout is an OSError, and so is what TLS makes of a torn record.
_BROKEN = (
    OSError,
    anyio.EndOfStream,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
)
_HEADERS = {
    "User-Agent": "assetgen-pipeline (reference fetcher)",
    "Accept": "image/png, image/jpeg, image/webp",
    "Accept-Encoding": "identity",
    "Connection": "close",
}


class HttpReferenceFetcher(ReferenceFetcher):
    """Fetches over https from public addresses; allowed networks may use http and any port."""

    def __init__(
        self,
        *,
        timeout_s: float = 10.0,
        max_bytes: int = 20 * _MIB,
        allowed_networks: Sequence[Network] = (),
        resolver: Resolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """`resolver` and `ssl_context` stand in for the system's in tests."""
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._allowed = tuple(allowed_networks)
        self._system = SystemResolver()
        chosen = resolver or self._system
        self._anywhere = AddressGuard(resolver=chosen, allowed_networks=self._allowed)
        self._inside = AddressGuard(resolver=chosen, allowed_networks=self._allowed, public=False)
        self._ssl_context = ssl_context or httpx.create_ssl_context(trust_env=False)

    async def fetch(self, url: str) -> FetchedBytes:
        """Fetch one URL anonymously, under one deadline for look-up, redirects and body.

        Raises:
            ReferenceBlocked: policy refuses the URL, an address behind it, or a redirect.
            ReferenceUnfetched: anything else that gave no bytes; says whether to retry.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._follow(self._checked(url))
        except _BROKEN as error:
            raise ReferenceUnfetched(_UNAVAILABLE, retryable=True) from error

    async def aclose(self) -> None:
        """Let the look-up threads end; connections never outlive a fetch."""
        self._system.close()

    async def _follow(self, url: httpx.URL) -> FetchedBytes:
        for _ in range(_MAX_REDIRECTS + 1):
            answer = await self._get(url)
            if isinstance(answer, FetchedBytes):
                return answer
            url = self._redirected(url, answer)
        raise ReferenceUnfetched("too many redirects")

    def _redirected(self, url: httpx.URL, location: str) -> httpx.URL:
        target = _joined(url, location)
        if url.scheme == "https" and target.scheme != "https":
            raise ReferenceBlocked(BLOCKED)
        try:
            return self._checked(str(target))
        except ReferenceBlocked as error:
            # Whatever is wrong with it: what a file may name is told, what a server names is not.
            raise ReferenceBlocked(BLOCKED) from error

    def _checked(self, text: str) -> httpx.URL:
        """A web address that passes the lint and that two parsers read alike."""
        check_reference_url(text, allowed_networks=self._allowed, own_bucket="", owner="")
        try:
            url, other = httpx.URL(text), urlsplit(text)
            alike = url.raw_host.decode() == other.hostname and url.port in _ports(other)
        except (httpx.InvalidURL, ValueError) as error:
            raise ReferenceBlocked(BLOCKED, code="reference-url-invalid") from error
        if not alike:
            raise ReferenceBlocked(BLOCKED, code="reference-url-invalid")
        return url

    async def _get(self, url: httpx.URL) -> FetchedBytes | str:
        """The bytes of a URL, or where it redirects to."""
        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=self._ssl_context, network_backend=self._guard_for(url)
            ) as connections,
            connections.stream(
                "GET",
                httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=[("Host", url.netloc), *_HEADERS.items()],
            ) as response,
        ):
            headers = httpx.Headers(response.headers)
            if response.status in _REDIRECTS and "location" in headers:
                return headers["location"]
            self._check_head(response.status, headers)
            return FetchedBytes(
                data=await self._body(response), content_type=headers.get("content-type", "")
            )

    def _guard_for(self, url: httpx.URL) -> AddressGuard:
        if url.scheme == "https" and url.port in (None, _HTTPS_PORT):
            return self._anywhere
        return self._inside

    def _check_head(self, status: int, headers: httpx.Headers) -> None:
        if status in _RETRYABLE or status >= _SERVER_ERROR:
            raise ReferenceUnfetched(
                _UNAVAILABLE, retryable=True, retry_after_s=_retry_after_s(headers)
            )
        # Decompressing is how 64 KiB become 64 MiB in one call; we asked for neither.
        if status != _OK or headers.get("content-encoding", "identity").lower() != "identity":
            raise ReferenceUnfetched(_UNAVAILABLE)
        # The parser has refused lengths that are no number.
        if int(headers.get("content-length", "0")) > self._max_bytes:
            raise self._too_large()

    async def _body(self, response: httpcore.Response) -> bytes:
        data = bytearray()
        async for part in response.aiter_stream():
            data += part
            if len(data) > self._max_bytes:
                raise self._too_large()
        return bytes(data)

    def _too_large(self) -> ReferenceUnfetched:
        message = f"larger than {self._max_bytes} bytes"
        return ReferenceUnfetched(message, code="reference-too-large")


def _ports(parts: SplitResult) -> tuple[int | None, ...]:
    """How httpx may keep the port: left out where it is the scheme's own."""
    own = {"http": 80, "https": _HTTPS_PORT}[parts.scheme]
    return (None, own) if parts.port in (None, own) else (parts.port,)


def _joined(url: httpx.URL, location: str) -> httpx.URL:
    # Looked at before joining, because joining quotes what must not be there.
    if "\\" in location or any(char.isspace() or not char.isprintable() for char in location):
        raise ReferenceBlocked(BLOCKED)
    try:
        return url.join(location)
    except (httpx.InvalidURL, ValueError) as error:
        raise ReferenceBlocked(BLOCKED) from error


def _retry_after_s(headers: httpx.Headers) -> float | None:
    try:
        return float(min(max(int(headers.get("retry-after", "")), 0), _MAX_RETRY_AFTER_S))
    except ValueError:
        return None
