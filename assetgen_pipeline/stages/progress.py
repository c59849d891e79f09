"""Progress of a running batch: `status.json` and one log line every few seconds."""

import json
import logging
import threading

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import ObjectMissing
from assetgen_pipeline.domain.image_request import BatchRequests
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_files import outcome_now
from assetgen_pipeline.stages.batch_status import progress_of, write_status
from assetgen_pipeline.stages.services import Services

logger = logging.getLogger(__name__)

EVERY_S = 3.0


class Progress:
    """Reports at most every `EVERY_S` seconds, and looks for a stop marker as often."""

    def __init__(self, batch: BatchRequests, *, run_id: str, services: Services) -> None:
        """Watch one batch of one run."""
        self._batch = batch
        self._run_id = run_id
        self._services = services
        self._next_s = services.clock.monotonic()
        self._stop_code = ""
        self._lock = threading.Lock()

    def stop_code(self) -> str:
        """`cancelled` once an operator asked for it, else empty."""
        return self._stop_code

    def report(self) -> None:
        """Rewrite the status if it is time to."""
        now_s = self._services.clock.monotonic()
        with self._lock:
            if now_s < self._next_s:
                return
            self._next_s = now_s + EVERY_S
        services, batch_id = self._services, self._batch.batch_id
        outcome = outcome_now(batch_id, store=services.store, ledger=services.ledger)
        if outcome is None:
            raise AssertionError("unreachable")
        write_status(
            batch_id,
            BatchState.RUNNING,
            store=services.store,
            clock=services.clock,
            run_id=self._run_id,
            **progress_of(outcome),
        )
        logger.info("batch %s: %s", batch_id, outcome.counts())
        self._stop_code = self._read_control()

    def _read_control(self) -> str:
        try:
            data = self._services.store.read(BatchFolder(self._batch.batch_id).control)
        except ObjectMissing:
            return ""
        return "cancelled" if json.loads(data).get("action") == "cancel" else ""
