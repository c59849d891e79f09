"""The machine's clock."""

import asyncio
import time
from datetime import UTC, datetime

from assetgen_pipeline.ports.clock import Clock


class SystemClock(Clock):
    """Real time; waiting gives the event loop to others."""

    def now(self) -> datetime:
        """The present instant, aware, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that only grow, from an arbitrary start."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking the event loop."""
        await asyncio.sleep(seconds)
