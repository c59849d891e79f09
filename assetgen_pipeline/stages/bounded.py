"""Doing one thing to many items, a fixed number at once.

One task per slot rather than one per item: ten thousand items cost no more than eight.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def map_bounded(
    fn: Callable[[Item], Awaitable[Result]], items: Iterable[Item], *, limit: int
) -> list[Result]:
    """Call `fn` on every item, `limit` at once, and return the results in the items' order.

    The first exception ends the others and is raised as it is.

    Raises:
        ValueError: `limit` is below 1.
    """
    if limit < 1:
        message = f"{limit} at once would never begin"
        raise ValueError(message)
    results: dict[int, Result] = {}
    queue = iter(enumerate(items))

    async def work() -> None:
        for index, item in queue:
            results[index] = await fn(item)

    workers = [asyncio.ensure_future(work()) for _ in range(limit)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return [results[index] for index in range(len(results))]
