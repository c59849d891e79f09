"""Choices that are the same on every machine, Python and day."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

_Option = TypeVar("_Option")


class Dice:
    """A stream of numbers that follows from its seed alone."""

    def __init__(self, seed: str) -> None:
        """Begin the stream that belongs to `seed`."""
        self._seed = seed
        self._throws = 0

    def between(self, low: float, high: float) -> float:
        """The next number, from `low` up to but not including `high`."""
        self._throws += 1
        digest = hashlib.sha256(f"{self._seed}:{self._throws}".encode()).digest()
        return low + (high - low) * int.from_bytes(digest[:6], "big") / 2**48

    def pick(self, options: Sequence[_Option]) -> _Option:
        """The next choice among `options`."""
        return options[int(self.between(0, len(options)))]
