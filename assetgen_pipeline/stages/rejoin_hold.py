"""The hold of a run that began in the middle: a re-execution of failed steps.

Closing the run before it ended its hold, and `budget_hold` is not among the steps that are
executed again. The first shard reserves what is missing; the others of the run find that.
"""

from collections.abc import Callable

from pydantic import ValidationError

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import BatchNotFound, ObjectExists, ObjectMissing
from assetgen_pipeline.domain.image_request import BatchRequests
from assetgen_pipeline.domain.pricing import Catalogue
from assetgen_pipeline.stages.batch_files import read_artifact
from assetgen_pipeline.stages.image_receipts import book_receipts
from assetgen_pipeline.stages.orders import scenes_ordered
from assetgen_pipeline.stages.reserve_budget import BudgetHold, reserve_budget
from assetgen_pipeline.stages.services import Services


def hold_of_run(
    held: BudgetHold,
    *,
    run_id: str,
    catalogue: Catalogue,
    services: Services,
    worker: str,
    see_alone: Callable[[], None],
) -> BudgetHold:
    """The hold that a shard of this run may send under: its own run's.

    Where this run reserved in `budget_hold`, that is the one, also where it has ended: a run
    that was closed as dead must not begin to pay again. `see_alone` raises where another run
    works on the batch: what that has in flight would be assumed, and made again here.

    Raises:
        BudgetRefused: the day does not cover what is missing.
        BatchNotFound: the batch's requests are gone.
    """
    if held.run_id in {"", run_id}:
        return held
    store = services.store
    name = BatchFolder(held.hold.batch_id).op_artifact(run_id, "rejoined_hold", None)
    try:
        return BudgetHold.model_validate_json(store.read(name))
    except (ObjectMissing, ValidationError):
        pass
    see_alone()
    mine = _reserve(held, run_id=run_id, catalogue=catalogue, services=services, worker=worker)
    try:
        store.create(name, mine.model_dump_json().encode(), content_type="application/json")
    except ObjectExists:
        # Another shard of this run was first; ours took its hold over and has the newer fence.
        store.write(name, mine.model_dump_json().encode(), content_type="application/json")
    return mine


def _reserve(
    held: BudgetHold, *, run_id: str, catalogue: Catalogue, services: Services, worker: str
) -> BudgetHold:
    batch_id = held.hold.batch_id
    batch = read_artifact(batch_id, "batch_requests", BatchRequests, store=services.store)
    if batch is None:
        message = f"the requests of {batch_id} are gone"
        raise BatchNotFound(message)
    book_receipts(services.ledger.attempts(batch_id), owner=batch.owner, services=services)
    return reserve_budget(
        batch,
        run_id=run_id,
        catalogue=catalogue,
        provider=held.provider,
        model=held.model,
        lane=held.lane,
        ledger=services.ledger,
        worker=worker,
        scenes=scenes_ordered(batch_id, store=services.store),
    )
