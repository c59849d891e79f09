"""Stop a batch between two images: for good where it is cancelled, for now where it is paused."""

from assetgen_pipeline.domain.batch_file import CsvLimits
from assetgen_pipeline.domain.bucket_layout import INBOX, BatchFolder
from assetgen_pipeline.domain.errors import BatchCancelled, ObjectExists, ObjectMissing
from assetgen_pipeline.domain.status import BatchState, BatchStatus
from assetgen_pipeline.domain.waiting import Cause
from assetgen_pipeline.ports.object_store import ObjectStore
from assetgen_pipeline.stages.batch_files import outcome_now, rows_of
from assetgen_pipeline.stages.batch_status import progress_of, read_status, write_status
from assetgen_pipeline.stages.close_batch import close_batch, settle_batch
from assetgen_pipeline.stages.parse_batch import (
    CSV_TYPE,
    InboxObject,
    claim_metadata,
    own_drop,
)
from assetgen_pipeline.stages.services import Services
from assetgen_pipeline.stages.waiting_batches import wait_for


def suspend_batch(batch_id: str, cause: Cause, *, provider: str, services: Services) -> None:
    """Let a batch wait without run, pool slot or hold; it keeps what is delivered.

    Raises:
        StorageUnavailable, LedgerUnavailable: call again later.
    """
    settle_batch(batch_id, services=services)
    wait_for(cause, batch_id, store=services.store, clock=services.clock, provider=provider)
    status = read_status(batch_id, store=services.store)
    outcome = outcome_now(batch_id, store=services.store, ledger=services.ledger)
    write_status(
        batch_id,
        status.state,
        store=services.store,
        clock=services.clock,
        reserved_usd="0.000000",
        **(progress_of(outcome) if outcome is not None else {}),
    )


def end_cancelled(
    batch_id: str, *, run_id: str, limits: CsvLimits, services: Services
) -> BatchStatus:
    """End a batch as cancelled, with results that list every row, also where none was begun.

    Raises:
        StorageUnavailable, LedgerUnavailable: call again later.
    """
    rows_of(batch_id, limits=limits, store=services.store)
    error = BatchCancelled("an operator ordered it to stop")
    return close_batch(batch_id, error, run_id=run_id, services=services)


def find_drop(batch_id: str, *, store: ObjectStore) -> InboxObject | None:
    """The file in the inbox that is this batch, if no run has claimed it yet."""
    for found in store.list(f"{INBOX}{BatchFolder(batch_id).owner}/"):
        drop = own_drop(batch_id, found.name, found.generation, bucket=store.bucket)
        if drop is not None:
            return drop
    return None


def take_from_inbox(batch_id: str, drop: InboxObject, *, services: Services) -> None:
    """Move a drop to the outbox for no run at all; a run that was faster keeps it."""
    store, folder = services.store, BatchFolder(batch_id)
    try:
        store.create(
            folder.request,
            store.read(drop.name, generation=drop.generation),
            content_type=CSV_TYPE,
            metadata=claim_metadata(run_id="", dry_run=drop.dry_run, clock=services.clock),
        )
    except (ObjectMissing, ObjectExists):
        return
    store.delete(drop.name, generation=drop.generation)
    write_status(
        batch_id,
        BatchState.RECEIVED,
        store=store,
        clock=services.clock,
        mode="dry_run" if drop.dry_run else "normal",
    )
