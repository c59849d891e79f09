"""The batch as it stands in the bucket: artifacts read back, and the outcome they give."""

from typing import TypeVar

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import ObjectMissing
from assetgen_pipeline.domain.image_request import BatchRequests, Value
from assetgen_pipeline.domain.outcome import BatchOutcome, batch_outcome
from assetgen_pipeline.domain.references import ReferenceDecision
from assetgen_pipeline.ports import Ledger, ObjectStore

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


def outcome_now(batch_id: str, *, store: ObjectStore, ledger: Ledger) -> BatchOutcome | None:
    """What became of every row up to now, `None` where the file was never read."""
    batch = read_artifact(batch_id, "batch_requests", BatchRequests, store=store)
    if batch is None:
        return None
    decision = read_artifact(batch_id, "reference_images", ReferenceDecision, store=store)
    return batch_outcome(batch, decision, ledger.attempts(batch_id))
