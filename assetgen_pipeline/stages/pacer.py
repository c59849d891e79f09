"""Waiting for a turn at a provider: the asynchronous part of `domain.pace`."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

from assetgen_pipeline.domain.circuit_breaker import CircuitBreaker
from assetgen_pipeline.domain.generation import ProviderError
from assetgen_pipeline.domain.pace import Pace, TokenBucket
from assetgen_pipeline.ports.clock import Clock

# The longest that somebody who waits for a pause to end does not look for a stop marker.
_LOOK_EVERY_S = 3.0


class Pacer:
    """The pace and the circuit breaker of one provider's model, as this process knows them."""

    def __init__(self, *, ceiling: int, clock: Clock, per_minute: Sequence[int] = ()) -> None:
        """Let `ceiling` requests be in flight at most, and hold each limit per minute."""
        self._clock = clock
        buckets = [TokenBucket(limit, now=clock.monotonic()) for limit in per_minute]
        self._waiting: list[asyncio.Future[None]] = []
        self.pace = Pace(ceiling=ceiling, buckets=buckets)
        self.breaker = CircuitBreaker()

    async def enter(self, stopped: Callable[[], Awaitable[bool]]) -> int | None:
        """Wait for a turn; what it returns goes to `leave`. `None` once `stopped` says so."""
        while not await stopped():
            now = self._clock.monotonic()
            wait_s = self.pace.wait_s(now)
            if wait_s == 0.0:
                return self.pace.start(now)
            if math.isinf(wait_s):
                await self._somebody_leaves()
            else:
                await self._clock.sleep(min(wait_s, _LOOK_EVERY_S))
        return None

    def leave(
        self, turn: int, failure: ProviderError | None, *, pause_s: float | None = None
    ) -> None:
        """Give the turn back, with how the request ended and what wait an answer asked for."""
        now = self._clock.monotonic()
        self.pace.end(turn, failure, now=now)
        self.pace.pause(pause_s or 0.0, now=now)
        if failure is None:
            self.breaker.succeeded()
        else:
            self.breaker.failed(failure, now=now)
        self._wake()

    def abandon(self) -> None:
        """Give a turn back that sent nothing, or ended in a bug: nothing is learned from it."""
        self.pace.abandon()
        self._wake()

    async def _somebody_leaves(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)
