"""The batch as it stands in the bucket: artifacts read back, and the outcome they give."""

from collections.abc import Mapping
from typing import TypeVar

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import BatchNotFound, ObjectMissing
from assetgen_pipeline.domain.image_request import BatchRequests, Value
from assetgen_pipeline.domain.outcome import BatchOutcome, ImageOutcome, ImageStatus, batch_outcome
from assetgen_pipeline.domain.references import ReferenceDecision
from assetgen_pipeline.ports import Ledger, ObjectStore
from assetgen_pipeline.stages.batch_status import read_status

Artifact = TypeVar("Artifact", bound=Value)


def read_artifact(
    batch_id: str, asset: str, kind: type[Artifact], *, store: ObjectStore
) -> Artifact | None:
    """One asset's artifact, `None` where the batch has not come that far."""
    try:
        data = store.read(BatchFolder(batch_id).artifact(asset))
    except ObjectMissing:
        return None
    return kind.model_validate_json(data)


def booked_outcome(batch_id: str, *, store: ObjectStore, ledger: Ledger) -> BatchOutcome | None:
    """What the ledger says of every row up to now, `None` where the file was never read."""
    batch = read_artifact(batch_id, "batch_requests", BatchRequests, store=store)
    if batch is None:
        return None
    decision = read_artifact(batch_id, "reference_images", ReferenceDecision, store=store)
    return batch_outcome(batch, decision, ledger.attempts(batch_id))


def outcome_now(batch_id: str, *, store: ObjectStore, ledger: Ledger) -> BatchOutcome | None:
    """The booked outcome, explained by the problem that `status.json` names, if any."""
    outcome = booked_outcome(batch_id, store=store, ledger=ledger)
    try:
        problem = read_status(batch_id, store=store).problem
    except BatchNotFound:
        problem = None
    return explained(outcome, problem) if outcome is not None else None


def explained(outcome: BatchOutcome, problem: Mapping[str, object] | None) -> BatchOutcome:
    """The outcome with the batch's problem as the reason of every image not attempted."""
    if problem is None:
        return outcome
    reason = {"code": str(problem["code"]), "detail": str(problem["title"])}

    def explain(image: ImageOutcome) -> ImageOutcome:
        bare = image.status is ImageStatus.NOT_ATTEMPTED and not image.code
        return image.model_copy(update=reason) if bare else image

    rows = tuple(
        row.model_copy(update={"images": tuple(explain(image) for image in row.images)})
        for row in outcome.rows
    )
    return outcome.model_copy(update={"rows": rows})
