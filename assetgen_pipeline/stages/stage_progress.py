"""How far each stage of a batch is: what `watch` shows beside `status.json`."""

from typing import Any

from pydantic import ValidationError

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import ObjectMissing
from assetgen_pipeline.domain.outcome import BatchOutcome
from assetgen_pipeline.domain.progress import BatchProgress, Stage, errors_by_reason
from assetgen_pipeline.ports.object_store import ObjectStore
from assetgen_pipeline.stages.services import Services

_ARTIFACT = "progress"


def write_progress(batch_id: str, stage: Stage, *, services: Services, **facts: Any) -> None:  # noqa: ANN401 - fields of the model
    """Say how far a stage is, for whoever watches."""
    progress = BatchProgress(stage=stage, updated_at=services.clock.now().isoformat(), **facts)
    services.store.write(
        BatchFolder(batch_id).artifact(_ARTIFACT),
        progress.model_dump_json().encode(),
        content_type="application/json",
    )


def advance(batch_id: str, units: int, *, services: Services) -> None:
    """Add to what the present stage has done."""
    known = read_progress(batch_id, store=services.store)
    if known is not None:
        facts = known.model_dump(exclude={"stage", "updated_at", "done"})
        done = known.done + units
        write_progress(batch_id, known.stage, services=services, done=done, **facts)


def note_wait(batch_id: str, waits_for: str, *, services: Services) -> None:
    """Say what a batch waits for, in words; with none, that it goes on."""
    known = read_progress(batch_id, store=services.store)
    if known is not None and known.waits_for != waits_for:
        facts = known.model_dump(exclude={"stage", "updated_at", "waits_for"})
        write_progress(batch_id, known.stage, services=services, waits_for=waits_for, **facts)


def read_progress(batch_id: str, *, store: ObjectStore) -> BatchProgress | None:
    """How far the batch is, `None` where nobody has said."""
    try:
        data = store.read(BatchFolder(batch_id).artifact(_ARTIFACT))
        return BatchProgress.model_validate_json(data)
    except (ObjectMissing, ValidationError):
        return None


def report_delivery(outcome: BatchOutcome, *, services: Services) -> None:
    """Say that the images are made, and what went wrong with those that failed."""
    errors = errors_by_reason(outcome.images)
    write_progress(outcome.batch_id, "delivery", services=services, errors=errors)
