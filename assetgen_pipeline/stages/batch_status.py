"""`status.json`: the batch's state, rewritten while it runs."""

from typing import Any

from pydantic import ValidationError

from assetgen_pipeline.domain.bucket_layout import BatchFolder, owner_of
from assetgen_pipeline.domain.errors import (
    BatchNotFound,
    ObjectChanged,
    ObjectMissing,
    StatusUnreadable,
)
from assetgen_pipeline.domain.outcome import BatchOutcome
from assetgen_pipeline.domain.status import BatchState, BatchStatus
from assetgen_pipeline.ports.clock import Clock
from assetgen_pipeline.ports.object_store import ObjectStore

_JSON = "application/json"


def read_status(batch_id: str, *, store: ObjectStore) -> BatchStatus:
    """The batch's status as last written.

    Raises:
        BatchNotFound: no such batch; `StatusUnreadable` where what stands there is no status of it.
    """
    name = BatchFolder(batch_id).status
    try:
        status = BatchStatus.model_validate_json(store.read(name))
    except ObjectMissing as error:
        message = f"no batch {batch_id}"
        raise BatchNotFound(message) from error
    except ValidationError as error:
        message = f"{name} is damaged"
        raise StatusUnreadable(message) from error
    if status.batch_id != batch_id:
        message = f"{name} is the status of another batch"
        raise StatusUnreadable(message)
    return status


def write_status(
    batch_id: str,
    state: BatchState,
    *,
    store: ObjectStore,
    clock: Clock,
    **changes: Any,  # noqa: ANN401 - fields of the model, which validates them
) -> BatchStatus:
    """Set the state and the fields given; the others stay as they were.

    A batch that has no problem any more (`problem=None`) has no `problem.json` either.
    """
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
    if changes.get("problem", status) is None:
        store.delete(BatchFolder(batch_id).problem)
    return status


def touch_status(
    batch_id: str, *, generation: int, store: ObjectStore, clock: Clock
) -> BatchStatus:
    """Say that a batch's files were written anew; nothing else of its status changes.

    Raises:
        ObjectChanged: somebody has written the status since `generation`.
    """
    name = BatchFolder(batch_id).status
    try:
        known = BatchStatus.model_validate_json(store.read(name, generation=generation))
    except (ObjectMissing, ValidationError) as error:
        message = f"{name} is no longer at generation {generation}, or damaged"
        raise ObjectChanged(message) from error
    status = known.model_copy(update={"updated_at": clock.now().isoformat()})
    data = status.model_dump_json(indent=1).encode()
    store.write(name, data, content_type=_JSON, if_generation=generation)
    return status


def progress_of(outcome: BatchOutcome) -> dict[str, Any]:
    """The fields of the status that an outcome gives."""
    return {
        "rows": len(outcome.rows),
        "images": outcome.counts(),
        "spent_usd": outcome.spent().usd(),
    }
