"""How fast to ask one model of one provider: decided from its answers, without waiting.

Requests in flight start at the ceiling. The first refusal of a burst cuts them by a
quarter, and the level that was refused is remembered: below it a round of images (as many
as are in flight, 25 at most) adds one, at it 25 in a row, and one step past it growth stays
for a while. What the provider asks to wait, everybody waits. Token buckets hold limits per
minute, where the catalogue knows them.
"""

import math
from collections.abc import Sequence

from assetgen_pipeline.domain.circuit_breaker import ASKS_TO_WAIT, LONGEST_WAIT_S
from assetgen_pipeline.domain.generation import ProviderError

_CUT = 0.75
_GROW_AFTER = 25
_PATIENT_GROW_AFTER = 100
_OVERSHOOT = 1.1
FIRST_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 60.0
_MINUTE_S = 60.0
_BURST_SHARE = 20
# Rounding must not make a token that is a hair short be waited for again and again.
_HAIR = 1e-9


class ConcurrencyLimit:
    """How many requests may be in flight: additive growth, multiplicative cut."""

    def __init__(self, ceiling: int) -> None:
        """Begin at the ceiling.

        Raises:
            ValueError: the ceiling is below 1.
        """
        if ceiling < 1:
            message = f"a ceiling of {ceiling} would never let anything begin"
            raise ValueError(message)
        self._ceiling = float(ceiling)
        self._limit = float(ceiling)
        # Nothing was refused yet, and nobody asks for more than the ceiling.
        self._refused_at = float(ceiling)
        self._answers = 0

    @property
    def slots(self) -> int:
        """Requests that may be in flight now, at least one."""
        return max(1, int(self._limit))

    def grow(self) -> None:
        """Count one image; enough of them in a row add a slot."""
        self._answers += 1
        wider = self._limit + 1
        past = wider > max(self._refused_at * _OVERSHOOT, self._refused_at + 1)
        if self._answers < (_PATIENT_GROW_AFTER if past else self._images_before(wider)):
            return
        self._answers = 0
        self._limit = min(self._ceiling, wider)
        if past:
            self._refused_at = self._limit - 1

    def _images_before(self, wider: float) -> int:
        """Images in a row that a slot more takes, up to the level that was refused.

        What has worked before is taken up again within a round. The refused level itself
        is tried no sooner than that, or a provider's true limit would be met every time.
        """
        return min(self.slots, _GROW_AFTER) if int(wider) < int(self._refused_at) else _GROW_AFTER

    def cut(self) -> None:
        """Give up a quarter, and remember where that was needed."""
        self._refused_at = self._limit
        self._limit = max(1.0, self._limit * _CUT)
        self._answers = 0


class TokenBucket:
    """At most `per_minute` starts in any minute, a few of them at once."""

    def __init__(self, per_minute: int, *, now: float) -> None:
        """Begin full.

        Raises:
            ValueError: the limit is below 1.
        """
        if per_minute < 1:
            message = f"{per_minute} a minute would never let anything begin"
            raise ValueError(message)
        self._capacity = float(max(1, per_minute // _BURST_SHARE))
        # A full bucket and what flows in within a minute make `per_minute` together.
        self._per_second = (per_minute + 1 - self._capacity) / _MINUTE_S
        self._tokens = self._capacity
        self._filled_at = now

    def wait_s(self, now: float) -> float:
        """Seconds until a token is there."""
        missing = 1.0 - self._level(now)
        return missing / self._per_second if missing > _HAIR else 0.0

    def take(self, now: float) -> None:
        """Use a token up; ask `wait_s` first."""
        self._tokens = self._level(now) - 1.0
        self._filled_at = now

    def give_back(self) -> None:
        """Undo a `take`: what it was for did not begin."""
        self._tokens = min(self._capacity, self._tokens + 1.0)

    def _level(self, now: float) -> float:
        flowed = (now - self._filled_at) * self._per_second
        return min(self._capacity, self._tokens + flowed)


class Pace:
    """When the next request may start. `now` is always monotonic seconds."""

    def __init__(self, *, ceiling: int, buckets: Sequence[TokenBucket] = ()) -> None:
        """Begin with `ceiling` in flight at most."""
        self._limit = ConcurrencyLimit(ceiling)
        self._buckets = tuple(buckets)
        self._paused_until = -math.inf
        self._cuts = 0
        self._cuts_since_an_image = 0
        self.in_flight = 0

    @property
    def slots(self) -> int:
        """Requests that may be in flight now."""
        return self._limit.slots

    def wait_s(self, now: float) -> float:
        """Seconds until a request may start: 0 now, infinity once one of those in flight ends."""
        if self.in_flight >= self._limit.slots:
            return math.inf
        waits = [bucket.wait_s(now) for bucket in self._buckets]
        return max([self._paused_until - now, 0.0, *waits])

    def start(self, now: float) -> int:
        """Count a request in; what it returns goes to `end`."""
        for bucket in self._buckets:
            bucket.take(now)
        self.in_flight += 1
        return self._cuts

    def end(self, started: int, failure: ProviderError | None, *, now: float) -> None:
        """Count a request out, and learn from how it ended."""
        self.in_flight -= 1
        if failure is None:
            self._limit.grow()
            self._cuts_since_an_image = 0
            return
        if failure.rule.slows and started == self._cuts:
            # Those that started before this cut say nothing about the pace after it.
            self._cuts += 1
            self._limit.cut()
            if failure.retry_after_s is None:
                doubled = FIRST_PAUSE_S * 2.0 ** min(self._cuts_since_an_image, 10)
                self.pause(min(doubled, _LONGEST_PAUSE_S), now=now)
            self._cuts_since_an_image += 1
        if failure.retry_after_s is not None and failure.kind in ASKS_TO_WAIT:
            self.pause(failure.retry_after_s, now=now)

    def abandon(self) -> None:
        """Count a request out that was none."""
        self.in_flight -= 1
        for bucket in self._buckets:
            bucket.give_back()

    def pause(self, seconds: float, *, now: float) -> None:
        """Let nobody start for so long, a quarter of an hour at most.

        A wait holds a slot of the deployment: whoever asks for more opens the breaker.
        """
        self._paused_until = max(self._paused_until, now + min(seconds, LONGEST_WAIT_S))
