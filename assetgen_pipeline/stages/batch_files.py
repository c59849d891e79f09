"""The batch as it stands in the bucket: artifacts read back, and the outcome they give."""

import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from pydantic import ValidationError

from assetgen_pipeline.domain.batch_file import CsvLimits
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import BatchNotFound, BatchRejected, ObjectMissing
from assetgen_pipeline.domain.image_request import BatchRequests, Value
from assetgen_pipeline.domain.orders import Reason
from assetgen_pipeline.domain.outcome import BatchOutcome, ImageOutcome, ImageStatus, batch_outcome
from assetgen_pipeline.domain.references import ReferenceDecision
from assetgen_pipeline.ports.ledger import Ledger
from assetgen_pipeline.ports.object_store import ObjectStore
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.stages.orders import read_order
from assetgen_pipeline.stages.parse_batch import parse_batch
from assetgen_pipeline.stages.shard_report import GenerationReport

logger = logging.getLogger(__name__)

Artifact = TypeVar("Artifact", bound=Value)


def read_artifact(
    batch_id: str, asset: str, kind: type[Artifact], *, store: ObjectStore
) -> Artifact | None:
    """One asset's artifact, `None` where the batch has not come that far.

    A damaged one counts as none: it is made again, and a batch can be closed without it.
    """
    name = BatchFolder(batch_id).artifact(asset)
    try:
        return kind.model_validate_json(store.read(name))
    except ObjectMissing:
        return None
    except ValidationError:
        logger.error("%s is damaged and is left aside", name)  # noqa: TRY400 - it may hold prompts
        return None


def rows_of(batch_id: str, *, limits: CsvLimits, store: ObjectStore) -> BatchRequests | None:
    """The batch's rows, read now where no run has; `None` where its file is not valid."""
    known = read_artifact(batch_id, "batch_requests", BatchRequests, store=store)
    if known is not None:
        return known
    folder = BatchFolder(batch_id)
    claimed = store.stat(folder.request)
    if claimed is None:
        return None
    try:
        batch = parse_batch(batch_id, claimed=claimed, limits=limits, store=store)
    except BatchRejected:
        return None
    data = batch.model_dump_json().encode()
    store.write(folder.artifact("batch_requests"), data, content_type="application/json")
    return batch


def booked_outcome(batch_id: str, *, store: ObjectStore, ledger: Ledger) -> BatchOutcome | None:
    """What the ledger says of every row up to now, `None` where the file was never read."""
    batch = read_artifact(batch_id, "batch_requests", BatchRequests, store=store)
    if batch is None:
        return None
    decision = read_artifact(batch_id, "reference_images", ReferenceDecision, store=store)
    outcome = batch_outcome(batch, decision, ledger.attempts(batch_id))
    report = read_artifact(batch_id, "generated_images", GenerationReport, store=store)
    return _with_refusals(outcome, report) if report is not None else outcome


def outcome_now(batch_id: str, *, store: ObjectStore, ledger: Ledger) -> BatchOutcome | None:
    """The booked outcome; what was left has the reason that it was left for."""
    outcome = booked_outcome(batch_id, store=store, ledger=ledger)
    reason = reason_of_the_rest(batch_id, store=store)
    return _with_reason(outcome, reason) if outcome is not None and reason is not None else outcome


def reason_of_the_rest(batch_id: str, *, store: ObjectStore) -> Reason | None:
    """Why images without an attempt were left, in this order.

    The problem that ended the batch; what stopped a shard early; what had left them before
    an operator limited the last run to other rows.
    """
    try:
        problem = read_status(batch_id, store=store).problem
    except BatchNotFound:
        problem = None
    if problem is not None:
        return Reason(code=str(problem["code"]), detail=str(problem["title"]))
    report = read_artifact(batch_id, "generated_images", GenerationReport, store=store)
    if report is not None and report.stopped is not None:
        return report.stopped
    order = read_order(batch_id, store=store)
    return order.others if order is not None else None


def explained(outcome: BatchOutcome, problem: Mapping[str, object] | None) -> BatchOutcome:
    """The outcome with the batch's problem as the reason of every image not attempted."""
    if problem is None:
        return outcome
    return _with_reason(outcome, Reason(code=str(problem["code"]), detail=str(problem["title"])))


def _with_reason(outcome: BatchOutcome, reason: Reason) -> BatchOutcome:
    def explain(image: ImageOutcome) -> ImageOutcome:
        bare = image.status is ImageStatus.NOT_ATTEMPTED and not image.code
        return image.model_copy(update=reason.model_dump()) if bare else image

    return _changed(outcome, explain)


def _with_refusals(outcome: BatchOutcome, report: GenerationReport) -> BatchOutcome:
    """The outcome with the budget as the reason where it refused the last attempt."""
    refused = report.refused

    def explain(image: ImageOutcome) -> ImageOutcome:
        why = refused.get(f"{image.scene_id}/{image.variant}")
        # A later run may have tried again, and its attempts say more.
        stale = image.run_id not in ("", report.run_id)
        if why is None or stale or image.status is ImageStatus.DELIVERED:
            return image
        return image.model_copy(update=why.model_dump())

    return _changed(outcome, explain) if refused else outcome


def _changed(outcome: BatchOutcome, change: Callable[[ImageOutcome], ImageOutcome]) -> BatchOutcome:
    rows = tuple(
        row.model_copy(update={"images": tuple(change(image) for image in row.images)})
        for row in outcome.rows
    )
    return outcome.model_copy(update={"rows": rows})
