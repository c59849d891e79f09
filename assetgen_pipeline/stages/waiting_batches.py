"""The list of batches that wait, and batches put on it and taken off it."""

from collections.abc import Iterator

from pydantic import ValidationError

from assetgen_pipeline.domain.bucket_layout import WAITING, BatchFolder, owner_of
from assetgen_pipeline.domain.errors import ObjectMissing
from assetgen_pipeline.domain.waiting import Cause, Waiting
from assetgen_pipeline.ports.clock import Clock
from assetgen_pipeline.ports.object_store import ObjectStore


def wait_for(
    cause: Cause, batch_id: str, *, store: ObjectStore, clock: Clock, provider: str = ""
) -> Waiting:
    """Put a batch on the list; a wait for approval or a pause goes on where it began.

    A wait for a run is made anew, because it asks for another run.
    """
    known = read_waiting(batch_id, store=store)
    if known is not None and known.cause == cause != "run":
        return known
    waiting = Waiting(
        batch_id=batch_id,
        owner=owner_of(batch_id),
        cause=cause,
        since=clock.now(),
        provider=provider,
    )
    store.write(
        BatchFolder(batch_id).waiting,
        waiting.model_dump_json().encode(),
        content_type="application/json",
        # So that a look at the list is one listing, however many wait.
        metadata={name: str(value) for name, value in waiting.model_dump(mode="json").items()},
    )
    return waiting


def read_waiting(batch_id: str, *, store: ObjectStore) -> Waiting | None:
    """What a batch waits for, if anything."""
    try:
        return Waiting.model_validate_json(store.read(BatchFolder(batch_id).waiting))
    except (ObjectMissing, ValidationError):
        return None


def stop_waiting(batch_id: str, *, store: ObjectStore) -> None:
    """Take a batch off the list."""
    store.delete(BatchFolder(batch_id).waiting)


def begin_work(batch_id: str, *, store: ObjectStore) -> None:
    """Take a batch off the list because a run has begun; its time to be approved in runs on."""
    waiting = read_waiting(batch_id, store=store)
    if waiting is not None and waiting.cause != "approval":
        stop_waiting(batch_id, store=store)


def waiting_batches(*, store: ObjectStore) -> Iterator[tuple[Waiting, int]]:
    """Everything on the list, with the generation that names each wait."""
    for found in store.list(WAITING):
        try:
            yield Waiting.model_validate(found.metadata), found.generation
        except ValidationError:
            # Not written by us: nobody waits.
            continue
