"""Progress of a running batch: `status.json`, what `watch` shows, a log line; and its stop orders."""

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from assetgen_pipeline.domain.bucket_layout import owner_of
from assetgen_pipeline.domain.generation import PlannedImage
from assetgen_pipeline.domain.orders import StopCode
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.domain.tally import BatchTally, Earlier
from assetgen_pipeline.stages.batch_status import write_status
from assetgen_pipeline.stages.orders import stop_code
from assetgen_pipeline.stages.services import Services
from assetgen_pipeline.stages.stage_progress import write_progress

logger = logging.getLogger(__name__)

EVERY_S = 3.0
# A change is dated when its transaction begins, and that may wait for four locks of 5 s. Each
# report reads so much again: at full speed that is what decides how much memory it takes.
_COMMITTED_LATE = timedelta(seconds=20)


class Progress:
    """Reports at most every `EVERY_S` seconds, and looks for a stop marker as often.

    One per batch and process: it reads the whole ledger once, and then what changed.
    """

    def __init__(
        self,
        batch_id: str,
        *,
        provider: str,
        rows: int,
        images: int,
        failed_by_reference: int,
        run_id: str,
        services: Services,
    ) -> None:
        """Watch one batch of one run that pays `provider`."""
        self._batch_id = batch_id
        self._provider = provider
        self._rows = rows
        self._run_id = run_id
        self._services = services
        self._tally = BatchTally(requested=images, failed_by_reference=failed_by_reference)
        self._next_s = self._read_s = services.clock.monotonic()
        self._in_hand: set[str] = set()
        self._stop_code: StopCode = ""
        self._interrupted = False
        self._lock = threading.Lock()

    def stop_code(self) -> str:
        """Why no further image may be started, empty where there is no reason; a reason stays."""
        return self._stop_code or ("interrupted" if self._interrupted else "")

    def interrupt(self) -> bool:
        """Start no further image, because this process is to end; `False` where it was told before.

        Told so while it is paused, it still waits for the calls in flight; whoever cancelled
        the batch has waited for them already. Safe in a signal handler.
        """
        if self._interrupted or self._stop_code == "cancelled":
            return False
        self._interrupted = True
        return True

    def stop(self, code: StopCode) -> None:
        """Start no further image for a reason that somebody else found, if it is one."""
        if code == "interrupted":
            self._interrupted = True
        else:
            self._stop_code = self._stop_code or code

    def earlier(self) -> Earlier:
        """What the batch's attempts came to, as the ledger says now."""
        with self._lock:
            self._catch_up()
            return self._tally.earlier()

    @contextmanager
    def working_on(self, images: Iterable[PlannedImage]) -> Iterator[None]:
        """Inside, a failed attempt at one of these is not its end, until `ended` says so."""
        items = {image.item_key for image in images}
        self._in_hand |= items
        try:
            yield
        finally:
            self._in_hand -= items

    def ended(self, item: str) -> None:
        """No further attempt is made at this one."""
        self._in_hand.discard(item)

    def is_due(self) -> bool:
        """Whether a report would be written now."""
        return self._services.clock.monotonic() >= self._next_s

    def report(self) -> None:
        """Rewrite the status if it is time to; somebody else's report is not waited for."""
        if not self.is_due() or not self._lock.acquire(blocking=False):
            return
        try:
            self._next_s = self._services.clock.monotonic() + EVERY_S
            self._write()
        finally:
            self._lock.release()

    def _write(self) -> None:
        self._catch_up()
        counts = self._tally.counts(self._in_hand)
        write_status(
            self._batch_id,
            BatchState.RUNNING,
            store=self._services.store,
            clock=self._services.clock,
            run_id=self._run_id,
            rows=self._rows,
            images=counts,
            spent_usd=self._tally.spent.usd(),
        )
        logger.info("batch %s: %s", self._batch_id, counts)
        write_progress(
            self._batch_id,
            "images",
            services=self._services,
            done=counts["requested"] - counts["not_attempted"],
            total=counts["requested"],
            errors=self._tally.errors(self._in_hand),
            retried=self._tally.retried(self._in_hand),
        )
        self._stop_code = self._stop_code or stop_code(
            self._batch_id,
            owner=owner_of(self._batch_id),
            provider=self._provider,
            store=self._services.store,
        )

    def _catch_up(self) -> None:
        clock, seen = self._services.clock, self._tally.changed_at
        now_s = clock.monotonic()
        # Where our clock was put back, what changed since is dated before what was seen.
        read_at = clock.now() - timedelta(seconds=now_s - self._read_s)
        since = min(seen, read_at) - _COMMITTED_LATE if seen is not None else None
        self._tally.update(self._services.ledger.attempts(self._batch_id, since=since))
        self._read_s = now_s
