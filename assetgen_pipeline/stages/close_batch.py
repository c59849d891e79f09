"""Close a batch, however it ended: book receipts, free its money, write its results.

Idempotent, and callable by anybody at any time after the run is over: the run's own exit,
the failure sensors, `cancel`, and the sweep that finds runs whose process was killed.
"""

import json
import logging
from typing import Any
from uuid import uuid4

from assetgen_pipeline.domain.bucket_layout import BatchFolder, owner_of
from assetgen_pipeline.domain.errors import (
    BatchCancelled,
    BatchNotFound,
    BatchRejected,
    BudgetRefused,
    LedgerUnavailable,
    StorageUnavailable,
)
from assetgen_pipeline.domain.image_request import BatchRequests
from assetgen_pipeline.domain.outcome import BatchOutcome, batch_outcome
from assetgen_pipeline.domain.problems import MEDIA_TYPE, problem_document
from assetgen_pipeline.domain.status import BatchState, BatchStatus, is_terminal
from assetgen_pipeline.ports.clock import Clock
from assetgen_pipeline.ports.object_store import ObjectStore
from assetgen_pipeline.stages.batch_files import booked_outcome, explained, rows_of
from assetgen_pipeline.stages.batch_status import progress_of, read_status, write_status
from assetgen_pipeline.stages.deliver_images import deliver_images
from assetgen_pipeline.stages.image_receipts import book_receipts
from assetgen_pipeline.stages.refresh_urls import sign_results, withhold_links
from assetgen_pipeline.stages.report_costs import report_costs
from assetgen_pipeline.stages.services import Services
from assetgen_pipeline.stages.waiting_batches import read_waiting, stop_waiting

logger = logging.getLogger(__name__)


def settle_batch(batch_id: str, *, services: Services) -> None:
    """Book what receipts prove, assume the rest, and release the hold.

    Raises:
        StorageUnavailable, LedgerUnavailable: call again later.
    """
    owner = owner_of(batch_id)
    book_receipts(services.ledger.attempts(batch_id), owner=owner, services=services)
    services.ledger.settle(batch_id)


def publish_results(outcome: BatchOutcome, *, services: Services) -> None:
    """Write every result file of a batch; without links where nothing can sign them now.

    Raises:
        StorageUnavailable: the bucket cannot be reached.
    """
    _write_results(outcome, services=services)
    report_costs(outcome.batch_id, services=services)


def _write_results(outcome: BatchOutcome, *, services: Services) -> None:
    deliver_images(outcome, services=services)
    try:
        sign_results(outcome, services=services)
    except StorageUnavailable as error:
        logger.warning("%s has results without links for now: %s", outcome.batch_id, error)
        withhold_links(outcome, services=services)


def finish_batch(outcome: BatchOutcome, *, services: Services) -> BatchStatus:
    """Set the final state of a batch whose results are written."""
    counts = outcome.counts()
    whole = counts["delivered"] == counts["requested"]
    return write_status(
        outcome.batch_id,
        BatchState.COMPLETED if whole else BatchState.COMPLETED_WITH_FAILURES,
        store=services.store,
        clock=services.clock,
        finished_at=services.clock.now().isoformat(),
        reserved_usd="0.000000",
        problem=None,
        **progress_of(outcome),
    )


def close_batch(
    batch_id: str,
    error: Exception,
    *,
    run_id: str,
    services: Services,
    keep_request: bool = False,
) -> BatchStatus:
    """End a batch that did not finish, with its results and the problem that ended it.

    A batch that is closed already stays as it is. It waits for nothing any more, but, with
    `keep_request`, for a run that was asked for.

    Raises:
        StorageUnavailable, LedgerUnavailable: call again later.
    """
    settle_batch(batch_id, services=services)
    try:
        status = read_status(batch_id, store=services.store)
    except BatchNotFound:
        status = None
    if status is not None and is_terminal(status.state) and status.run_id == run_id:
        return status
    waiting = read_waiting(batch_id, store=services.store) if keep_request else None
    if waiting is None or waiting.cause != "run":
        stop_waiting(batch_id, store=services.store)
    # It may have ended before any run read its file.
    rows_of(batch_id, limits=services.csv_limits, store=services.store)
    outcome = booked_outcome(batch_id, store=services.store, ledger=services.ledger)
    if outcome is not None:
        outcome = explained(outcome, _problem(error, batch_id))
        publish_results(outcome, services=services)
    return end_with_problem(batch_id, error, outcome=outcome, run_id=run_id, services=services)


def end_with_problem(
    batch_id: str,
    error: Exception,
    *,
    outcome: BatchOutcome | None,
    run_id: str,
    services: Services,
) -> BatchStatus:
    """Write `problem.json` and the final state that the error means."""
    return _end(
        batch_id,
        error,
        store=services.store,
        clock=services.clock,
        run_id=run_id,
        reserved_usd="0.000000",
        # What has no rows yet has paid for nothing.
        **(progress_of(outcome) if outcome is not None else {"spent_usd": "0.000000"}),
    )


def fail_without_ledger(
    batch_id: str, error: LedgerUnavailable, *, services: Services
) -> BatchStatus:
    """Say that a batch failed because its books cannot be reached.

    What it holds and what was delivered stand in them: the status keeps what it said last,
    and whoever reaches the ledger again settles the hold and writes the results. A batch that
    never held money has paid for nothing, so its rows are listed now.
    """
    outcome = _never_begun(batch_id, services)
    if outcome is not None:
        outcome = explained(outcome, _problem(error, batch_id))
        _write_results(outcome, services=services)
    return _end(
        batch_id,
        error,
        store=services.store,
        clock=services.clock,
        run_id=None,
        **(progress_of(outcome) if outcome is not None else {}),
    )


def _never_begun(batch_id: str, services: Services) -> BatchOutcome | None:
    """Every row as not attempted, `None` where some run of the batch came as far as a hold."""
    try:
        reserved = read_status(batch_id, store=services.store).reserved_usd
    except BatchNotFound:
        reserved = None
    hold = services.store.stat(BatchFolder(batch_id).artifact("budget_hold"))
    if reserved is not None or hold is not None:
        return None
    batch = rows_of(batch_id, limits=services.csv_limits, store=services.store)
    return batch_outcome(batch, None, ()) if batch is not None else None


def _end(
    batch_id: str,
    error: Exception,
    *,
    store: ObjectStore,
    clock: Clock,
    **changes: Any,  # noqa: ANN401 - fields of the status, which validates them
) -> BatchStatus:
    document = _problem(error, batch_id)
    store.write(
        BatchFolder(batch_id).problem,
        json.dumps(document, ensure_ascii=False, indent=1).encode(),
        content_type=MEDIA_TYPE,
    )
    return write_status(
        batch_id,
        _state_for(error),
        store=store,
        clock=clock,
        finished_at=clock.now().isoformat(),
        problem=document,
        **changes,
    )


def _problem(error: Exception, batch_id: str) -> dict[str, object]:
    return problem_document(error, batch_id=batch_id, instance=f"urn:uuid:{uuid4()}")


def _state_for(error: Exception) -> BatchState:
    match error:
        case BatchRejected():
            return BatchState.REJECTED
        case BudgetRefused():
            return BatchState.REFUSED
        case BatchCancelled():
            return BatchState.CANCELLED
        case _:
            return BatchState.FAILED


def refuse_batch(
    batch: BatchRequests, error: BudgetRefused, *, run_id: str, services: Services
) -> BatchStatus:
    """End a batch that the budget does not cover: every row is listed as not attempted."""
    attempts = services.ledger.attempts(batch.batch_id)
    problem = _problem(error, batch.batch_id)
    outcome = explained(batch_outcome(batch, None, attempts), problem)
    publish_results(outcome, services=services)
    return _end(
        batch.batch_id,
        error,
        store=services.store,
        clock=services.clock,
        run_id=run_id,
        estimate_usd=error.estimate.usd(),
        reserved_usd="0.000000",
        **progress_of(outcome),
    )
