import asyncio

import pytest

from assetgen_pipeline.stages.bounded import map_bounded


async def test_results_come_in_the_items_order_whoever_ends_first():
    async def wait(turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    assert await map_bounded(wait, [5, 1, 3, 0], limit=2) == [5, 1, 3, 0]


async def test_as_many_run_at_once_as_allowed_and_no_more():
    running, peak = 0, 0

    async def work(_):
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0)
        running -= 1

    await map_bounded(work, range(50), limit=4)

    assert peak == 4


async def test_items_are_taken_when_they_are_begun():
    taken = 0

    def items():
        nonlocal taken
        for item in range(1000):
            taken += 1
            yield item

    async def fail(item):
        await asyncio.sleep(0)
        raise LookupError(item)

    with pytest.raises(LookupError):
        await map_bounded(fail, items(), limit=2)

    assert taken == 2


async def test_the_first_exception_is_raised_as_it_is_and_ends_the_others():
    ended = []

    async def work(item):
        if item == "bad":
            await asyncio.sleep(0)
            raise LookupError(item)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(item)

    with pytest.raises(LookupError, match="bad"):
        await map_bounded(work, ["one", "bad", "two", "never begun"], limit=3)

    assert sorted(ended) == ["one", "two"]


async def test_cancelling_the_caller_ends_the_work():
    begun, ended = asyncio.Event(), []

    async def work(item):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(item)

    task = asyncio.create_task(map_bounded(work, [1], limit=1))
    await begun.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [1]


async def test_nothing_to_do_is_done():
    assert await map_bounded(asyncio.sleep, [], limit=3) == []


async def test_none_at_once_is_refused():
    with pytest.raises(ValueError, match="never begin"):
        await map_bounded(asyncio.sleep, [1], limit=0)
