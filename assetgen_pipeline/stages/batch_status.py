"""`status.json`: the batch's state, rewritten while it runs."""

from typing import Any

from assetgen_pipeline.domain.bucket_layout import BatchFolder, owner_of
from assetgen_pipeline.domain.errors import BatchNotFound, ObjectMissing
from assetgen_pipeline.domain.outcome import BatchOutcome
from assetgen_pipeline.domain.status import BatchState, BatchStatus
from assetgen_pipeline.ports import Clock, ObjectStore

_JSON = "application/json"


def read_status(batch_id: str, *, store: ObjectStore) -> BatchStatus:
    """The batch's status as last written.

    Raises:
        BatchNotFound: no such batch.
    """
    try:
        data = store.read(BatchFolder(batch_id).status)
    except ObjectMissing as error:
        message = f"no batch {batch_id}"
        raise BatchNotFound(message) from error
    return BatchStatus.model_validate_json(data)


def write_status(
    batch_id: str,
    state: BatchState,
    *,
    store: ObjectStore,
    clock: Clock,
    **changes: Any,  # noqa: ANN401 - fields of the model, which validates them
) -> BatchStatus:
    """Set the state and the fields given; the others stay as they were."""
    now = clock.now().isoformat()
    try:
        known = read_status(batch_id, store=store).model_dump()
    except BatchNotFound:
        known = {
            "batch_id": batch_id,
            "owner": owner_of(batch_id),
            "mode": "normal",
            "started_at": now,
            "outbox": f"gs://{store.bucket}/{BatchFolder(batch_id).prefix}",
        }
    fields = {**known, **changes, "state": state, "updated_at": now}
    status = BatchStatus.model_validate(fields)
    data = status.model_dump_json(indent=1).encode()
    store.write(BatchFolder(batch_id).status, data, content_type=_JSON)
    return status


def progress_of(outcome: BatchOutcome) -> dict[str, Any]:
    """The fields of the status that an outcome gives."""
    return {
        "rows": len(outcome.rows),
        "images": outcome.counts(),
        "spent_usd": outcome.spent().usd(),
    }
