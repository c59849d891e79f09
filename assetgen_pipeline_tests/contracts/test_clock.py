"""What every clock keeps to, the system's or a test's."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest

from assetgen_pipeline.adapters.system_clock import SystemClock
from assetgen_pipeline.testing.clock import ManualClock

HOUR = timedelta(hours=1)


@pytest.fixture(params=[ManualClock, SystemClock])
def clock(request):
    return request.param()


def test_the_present_is_aware_and_in_utc(clock):
    assert clock.now().tzinfo is UTC


async def test_a_sleep_takes_its_time_and_neither_clock_goes_back(clock):
    before, began = clock.now(), clock.monotonic()

    await clock.sleep(0.01)

    assert clock.now() >= before
    assert clock.monotonic() - began >= 0.009


async def test_others_run_while_one_sleeps(clock):
    order = []

    async def sleeper():
        await clock.sleep(0.01)
        order.append("sleeper")

    async def other():
        order.append("other")

    await asyncio.gather(sleeper(), other())

    assert order == ["other", "sleeper"]


async def test_no_time_at_all_is_slept_at_once(clock):
    await clock.sleep(0)
    await clock.sleep(-1)


def test_manual_time_stands_still_until_it_is_moved():
    clock = ManualClock()

    assert clock.now() == clock.now() == datetime(2026, 1, 5, 12, tzinfo=UTC)
    clock.advance(HOUR)
    assert clock.now() == datetime(2026, 1, 5, 13, tzinfo=UTC)
    assert clock.monotonic() == 3600


def test_the_wall_clock_can_be_put_back_and_monotonic_time_cannot():
    clock = ManualClock()

    clock.set(datetime(2020, 1, 1, tzinfo=timezone(HOUR)))

    assert clock.now() == datetime(2019, 12, 31, 23, tzinfo=UTC)
    assert clock.now().tzinfo is UTC
    assert clock.monotonic() == 0
    with pytest.raises(ValueError, match="pass"):
        clock.advance(-HOUR)


def test_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="zone"):
        ManualClock(datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="zone"):
        ManualClock().set(datetime(2026, 1, 1))  # noqa: DTZ001


async def test_a_manual_sleep_is_recorded_and_lets_others_run():
    clock = ManualClock()
    order = []

    async def sleeper(name):
        order.append(f"{name} begins")
        await clock.sleep(2)
        order.append(f"{name} ends")

    await asyncio.gather(sleeper("a"), sleeper("b"))

    assert order == ["a begins", "b begins", "a ends", "b ends"]
    assert clock.sleeps == [2, 2]
    assert clock.monotonic() == 4
