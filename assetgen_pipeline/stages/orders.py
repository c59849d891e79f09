"""Orders for one batch: written by an operator's command, obeyed by whatever run works on it."""

from collections.abc import Collection, Sequence

from pydantic import ValidationError

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import ObjectMissing
from assetgen_pipeline.domain.orders import CANCEL, ROWS, BatchOrder, Reason, StopCode
from assetgen_pipeline.ports.clock import Clock
from assetgen_pipeline.ports.object_store import ObjectStore
from assetgen_pipeline.stages.pausing import read_pauses


def read_order(batch_id: str, *, store: ObjectStore) -> BatchOrder | None:
    """The order in force, `None` where there is none or it cannot be understood."""
    try:
        return BatchOrder.model_validate_json(store.read(BatchFolder(batch_id).control))
    except (ObjectMissing, ValidationError):
        return None


def is_cancelled(batch_id: str, *, store: ObjectStore) -> bool:
    """Whether an operator ordered the batch to stop."""
    order = read_order(batch_id, store=store)
    return order is not None and order.cancels


def stop_code(batch_id: str, *, owner: str, provider: str, store: ObjectStore) -> StopCode:
    """Why no further image of a batch may be started, empty where it may go on."""
    if is_cancelled(batch_id, store=store):
        return "cancelled"
    return "paused" if read_pauses(store=store).stopping(owner, provider) else ""


def scenes_ordered(batch_id: str, *, store: ObjectStore) -> Collection[str] | None:
    """The scenes that an operator limited the batch's runs to, `None` for all."""
    order = read_order(batch_id, store=store)
    return order.scenes if order is not None else None


def order_cancel(batch_id: str, *, by: str, store: ObjectStore, clock: Clock) -> None:
    """Order the batch to stop: calls in flight finish, no further one begins."""
    _write(batch_id, BatchOrder(action=CANCEL, by=by, at=clock.now().isoformat()), store)


def order_rows(
    batch_id: str,
    rows: Sequence[str],
    *,
    by: str,
    others: Reason | None,
    store: ObjectStore,
    clock: Clock,
) -> None:
    """Limit the runs that follow to some scenes; `others` says why the rest has no image yet."""
    now = clock.now().isoformat()
    _write(batch_id, BatchOrder(action=ROWS, by=by, at=now, rows=tuple(rows), others=others), store)


def withdraw_order(batch_id: str, *, store: ObjectStore) -> None:
    """Let the runs that follow make everything that is missing."""
    store.delete(BatchFolder(batch_id).control)


def _write(batch_id: str, order: BatchOrder, store: ObjectStore) -> None:
    data = order.model_dump_json(indent=1).encode()
    store.write(BatchFolder(batch_id).control, data, content_type="application/json")
