"""Waiting for a turn at a provider."""

import asyncio

from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.stages.pacer import Pacer
from assetgen_pipeline.testing.clock import ManualClock


async def never():
    return False


async def always():
    return True


def limited(after):
    return ProviderError("slow down", kind=ErrorKind.RATE_LIMITED, retry_after_s=after)


async def test_who_comes_when_all_slots_are_taken_waits_for_one():
    pacer = Pacer(ceiling=1, clock=ManualClock())
    first = await pacer.enter(never)
    second = asyncio.ensure_future(pacer.enter(never))
    await asyncio.sleep(0.01)
    waited = not second.done()

    pacer.leave(first, None)

    assert waited
    assert await second is not None


async def test_a_turn_that_ended_in_a_bug_is_free_again_and_teaches_nothing():
    pacer = Pacer(ceiling=1, clock=ManualClock())
    await pacer.enter(never)
    second = asyncio.ensure_future(pacer.enter(never))
    await asyncio.sleep(0.01)

    pacer.abandon()

    assert await second is not None
    assert pacer.pace.slots == 1
    assert pacer.breaker.opened_by is None


async def test_once_stopped_nobody_gets_a_turn():
    pacer = Pacer(ceiling=1, clock=ManualClock())

    assert await pacer.enter(always) is None
    assert pacer.pace.in_flight == 0


async def test_a_stop_is_noticed_every_few_seconds_of_a_long_pause():
    clock = ManualClock()
    pacer = Pacer(ceiling=1, clock=clock)
    pacer.leave(await pacer.enter(never), limited(600.0))
    looks = []

    async def stop_after_a_minute():
        looks.append(clock.monotonic())
        return clock.monotonic() >= 60.0

    assert await pacer.enter(stop_after_a_minute) is None
    assert clock.monotonic() <= 63.0
    assert max(clock.sleeps) <= 3.0


async def test_somebody_who_waits_and_was_cancelled_holds_nobody_up():
    pacer = Pacer(ceiling=1, clock=ManualClock())
    first = await pacer.enter(never)
    gone = asyncio.ensure_future(pacer.enter(never))
    await asyncio.sleep(0.01)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)

    pacer.leave(first, None)

    assert await pacer.enter(never) is not None


async def test_a_turn_that_sent_nothing_is_no_request_of_its_minute():
    clock = ManualClock()
    pacer = Pacer(ceiling=8, clock=clock, per_minute=[6])

    for _ in range(20):
        await pacer.enter(never)
        pacer.abandon()
    await pacer.enter(never)

    assert clock.sleeps == []
    assert pacer.pace.wait_s(clock.monotonic()) > 0


async def test_limits_per_minute_are_waited_for():
    clock = ManualClock()
    pacer = Pacer(ceiling=8, clock=clock, per_minute=[6])

    for _ in range(4):
        pacer.leave(await pacer.enter(never), None)

    assert clock.monotonic() >= 30.0 - 1e-6


async def test_an_answer_that_says_that_its_limit_is_used_up_is_heeded():
    clock = ManualClock()
    pacer = Pacer(ceiling=8, clock=clock)
    pacer.leave(await pacer.enter(never), None, pause_s=12.0)

    await pacer.enter(never)

    assert clock.monotonic() == 12.0
    assert pacer.pace.slots == 8
