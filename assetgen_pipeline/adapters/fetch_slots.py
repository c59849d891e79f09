"""The machine's places for reference fetches: a limit that holds across processes.

Dagster's pool bounds the steps, but on SQLite it can give one slot to two processes that
ask at the same moment. A place here is a file lock of the kernel's: it has one holder, and
it is free again the moment its holder ends, however that happens.
"""

import asyncio
import fcntl
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from assetgen_pipeline.domain.references import FetchedBytes, NotModified, Validators
from assetgen_pipeline.ports.references import ReferenceFetcher

_log = logging.getLogger(__name__)
_LOOK_AGAIN_S = 0.02
_WORTH_SAYING_S = 5.0


class FetchSlots:
    """`slots` places, shared by every process that names the same folder."""

    def __init__(self, folder: Path, *, slots: int) -> None:
        """Make the folder where it is absent."""
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = [folder / f"{number}.lock" for number in range(slots)]
        self.waited_s = 0.0

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold one place; waits for as long as all are taken."""
        place = await self._place()
        try:
            yield
        finally:
            # What a process has open ends with it, so a killed one holds nothing either.
            os.close(place)

    async def _place(self) -> int:
        loop = asyncio.get_running_loop()
        began = loop.time()
        said = False
        while (place := self._free_place()) is None:
            await asyncio.sleep(_LOOK_AGAIN_S)
            if not said and loop.time() - began > _WORTH_SAYING_S:
                said = True
                _log.info("waiting for one of this machine's %d fetch slots", len(self._paths))
        self.waited_s += loop.time() - began
        return place

    def _free_place(self) -> int | None:
        for path in self._paths:
            # Opened anew each time: locks of one open file do not exclude each other.
            place = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(place)
            except BaseException:
                os.close(place)
                raise
            else:
                return place
        return None


class SlottedReferenceFetcher(ReferenceFetcher):
    """Fetches while it holds one of the machine's places; waiting is not part of an attempt."""

    def __init__(self, fetcher: ReferenceFetcher, slots: FetchSlots) -> None:
        """Bound `fetcher`, which this closes, by `slots`."""
        self._fetcher = fetcher
        self._slots = slots

    @property
    def waited_s(self) -> float:
        """Seconds that fetches waited for a place, summed."""
        return self._slots.waited_s

    async def fetch(
        self, url: str, *, known: Validators | None = None
    ) -> FetchedBytes | NotModified:
        """Wait for a place, then fetch.

        Raises:
            ReferenceBlocked, ReferenceUnfetched: as the fetcher that is bounded.
        """
        async with self._slots.held():
            return await self._fetcher.fetch(url, known=known)

    async def aclose(self) -> None:
        """Close the fetcher that is bounded."""
        await self._fetcher.aclose()
