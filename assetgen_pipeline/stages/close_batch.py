"""Close a batch, however it ended: book receipts, free its money, write its results.

Idempotent, and callable by anybody at any time after the run is over: the run's own exit,
the failure sensors, `cancel`, and the sweep that finds runs whose process was killed.
"""

import json
import logging
from uuid import uuid4

from assetgen_pipeline.domain.bucket_layout import BatchFolder, owner_of
from assetgen_pipeline.domain.errors import (
    BatchCancelled,
    BatchNotFound,
    BatchRejected,
    BudgetRefused,
)
from assetgen_pipeline.domain.image_request import BatchRequests
from assetgen_pipeline.domain.outcome import BatchOutcome, batch_outcome
from assetgen_pipeline.domain.problems import problem_document
from assetgen_pipeline.domain.status import BatchState, BatchStatus, is_terminal
from assetgen_pipeline.stages.batch_files import booked_outcome, explained
from assetgen_pipeline.stages.batch_status import progress_of, read_status, write_status
from assetgen_pipeline.stages.deliver_images import deliver_images
from assetgen_pipeline.stages.image_receipts import book_receipts
from assetgen_pipeline.stages.refresh_urls import sign_results
from assetgen_pipeline.stages.report_costs import report_costs
from assetgen_pipeline.stages.services import Services

logger = logging.getLogger(__name__)


def settle_batch(batch_id: str, *, services: Services) -> None:
    """Book what receipts prove, assume the rest, and release the hold.

    Raises:
        LedgerUnavailable: nothing was changed.
    """
    owner = owner_of(batch_id)
    book_receipts(services.ledger.attempts(batch_id), owner=owner, services=services)
    services.ledger.settle(batch_id)


def publish_results(outcome: BatchOutcome, *, run_id: str, services: Services) -> None:
    """Write every result file of a batch.

    Raises:
        StorageUnavailable: the bucket cannot be reached.
    """
    deliver_images(outcome, services=services)
    sign_results(outcome, services=services)
    day = services.ledger.day(outcome.owner).budget_date
    report_costs(outcome, budget_date=day, run_id=run_id, services=services)


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


def close_batch(batch_id: str, error: Exception, *, run_id: str, services: Services) -> BatchStatus:
    """End a batch that did not finish, with its results and the problem that ended it.

    A batch that is closed already stays as it is.

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
    outcome = booked_outcome(batch_id, store=services.store, ledger=services.ledger)
    if outcome is not None:
        outcome = explained(outcome, _problem(error))
        publish_results(outcome, run_id=run_id, services=services)
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
    document = _problem(error)
    folder = BatchFolder(batch_id)
    services.store.write(
        folder.problem,
        json.dumps(document, ensure_ascii=False, indent=1).encode(),
        content_type="application/problem+json",
    )
    return write_status(
        batch_id,
        _state_for(error),
        store=services.store,
        clock=services.clock,
        run_id=run_id,
        finished_at=services.clock.now().isoformat(),
        reserved_usd="0.000000",
        problem=document,
        **(progress_of(outcome) if outcome is not None else {}),
    )


def _problem(error: Exception) -> dict[str, object]:
    return problem_document(error, instance=f"urn:uuid:{uuid4()}")


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
    outcome = explained(batch_outcome(batch, None, attempts), _problem(error))
    publish_results(outcome, run_id=run_id, services=services)
    return end_with_problem(
        batch.batch_id, error, outcome=outcome, run_id=run_id, services=services
    )
