"""A clock that only moves when told to."""

import asyncio
from datetime import UTC, datetime, timedelta

from assetgen_pipeline.ports.clock import Clock

_START = datetime(2026, 1, 5, 12, tzinfo=UTC)


class ManualClock(Clock):
    """Time that a test moves; `sleeps` lists every wait that the code asked for."""

    def __init__(self, start: datetime = _START) -> None:
        """Begin at `start`, an aware instant."""
        self._now = _utc(start)
        self._monotonic = 0.0
        self.sleeps: list[float] = []

    def now(self) -> datetime:
        """The instant that the test set."""
        return self._now

    def monotonic(self) -> float:
        """Seconds passed through `sleep` and `advance`; `set` does not touch them."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Record the wait, move time at once and let other tasks run."""
        self.sleeps.append(seconds)
        self.advance(timedelta(seconds=max(0.0, seconds)))
        await asyncio.sleep(0)

    def advance(self, by: timedelta) -> None:
        """Let time pass.

        Raises:
            ValueError: `by` is negative; use `set` to put the wall clock back.
        """
        if by < timedelta(0):
            message = f"time cannot pass by {by}"
            raise ValueError(message)
        self._now += by
        self._monotonic += by.total_seconds()

    def set(self, now: datetime) -> None:
        """Set the wall clock, forwards or backwards, as an operator or NTP may.

        Raises:
            ValueError: `now` has no time zone.
        """
        self._now = _utc(now)


def _utc(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        message = f"{instant} has no time zone"
        raise ValueError(message)
    return instant.astimezone(UTC)
