"""Time."""

from abc import ABC, abstractmethod
from datetime import datetime


class Clock(ABC):
    """Time, passed in so that tests can move it."""

    @abstractmethod
    def now(self) -> datetime:
        """The present instant, aware, UTC."""

    @abstractmethod
    def monotonic(self) -> float:
        """Seconds that only grow."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Wait."""
