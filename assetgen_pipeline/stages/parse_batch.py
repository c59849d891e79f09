"""Claim a batch, so that no other run works on it, and read its file.

A run claims a CSV by a create-only upload of `request.csv`; only then is the inbox object
deleted, at the generation that was read. The upload decides every race: the local server
checks preconditions atomically on uploads alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

from assetgen_pipeline.domain.batch_file import CsvLimits, check_size, parse_batch_file
from assetgen_pipeline.domain.bucket_layout import BatchFolder, parse_drop
from assetgen_pipeline.domain.errors import (
    BatchNotFound,
    ClaimLost,
    ObjectChanged,
    ObjectExists,
    ObjectMissing,
)
from assetgen_pipeline.domain.image_request import BatchRequests
from assetgen_pipeline.ports.clock import Clock
from assetgen_pipeline.ports.object_store import ObjectInfo, ObjectStore

CSV_TYPE = "text/csv; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxObject:
    """The drop that a batch comes from; `own_drop` has seen that it is that batch."""

    name: str
    generation: int
    dry_run: bool


def own_drop(batch_id: str, name: str, generation: int, *, bucket: str) -> InboxObject | None:
    """The drop of this name and generation, `None` where it is not this batch.

    What a run is for stands in its tags, and whoever launches a run sets tags: nobody's file
    becomes another's batch, nor is it taken out of the inbox by one.
    """
    drop = parse_drop(name)
    if drop is None or drop.batch_id(bucket=bucket, generation=generation) != batch_id:
        return None
    return InboxObject(name=name, generation=generation, dry_run=drop.dry_run)


def claim_batch(
    batch_id: str,
    *,
    inbox: InboxObject | None,
    run_id: str,
    is_live: Callable[[str], bool],
    limits: CsvLimits,
    store: ObjectStore,
    clock: Clock,
) -> ObjectInfo:
    """Make this run the only one that works on the batch, and empty its place in the inbox.

    A claim of a run that is over (`is_live` says so) is taken over.

    Raises:
        ClaimLost: a live other run holds it, or won the race for it.
        BatchNotFound: neither a claimed file nor one in the inbox.
        BatchRejected: the file is too large to be read; it stays where it is.
    """
    folder = BatchFolder(batch_id)
    claimed = store.stat(folder.request)
    if claimed is None:
        claimed = _upload(folder, inbox, run_id=run_id, limits=limits, store=store, clock=clock)
    check_size(claimed.size, limits)
    owner_run = claimed.metadata.get("claimed_by", "")
    if owner_run != run_id:
        if owner_run and is_live(owner_run):
            message = f"run {owner_run} works on {batch_id}"
            raise ClaimLost(message)
        claimed = _take_over(claimed, run_id=run_id, store=store)
    if inbox is not None:
        store.delete(inbox.name, generation=inbox.generation)
    return claimed


def _upload(
    folder: BatchFolder,
    inbox: InboxObject | None,
    *,
    run_id: str,
    limits: CsvLimits,
    store: ObjectStore,
    clock: Clock,
) -> ObjectInfo:
    if inbox is None:
        message = f"no batch {folder.batch_id}"
        raise BatchNotFound(message)
    found = store.stat(inbox.name)
    if found is not None:
        check_size(found.size, limits)
    try:
        data = store.read(inbox.name, generation=inbox.generation)
        return store.create(
            folder.request,
            data,
            content_type=CSV_TYPE,
            metadata=claim_metadata(run_id=run_id, dry_run=inbox.dry_run, clock=clock),
        )
    except (ObjectMissing, ObjectExists):
        claimed = store.stat(folder.request)
    if claimed is None:
        message = f"the file of {folder.batch_id} was removed or replaced before it was claimed"
        raise BatchNotFound(message)
    return claimed


def _take_over(claimed: ObjectInfo, *, run_id: str, store: ObjectStore) -> ObjectInfo:
    # A guarded upload of the same bytes: the local server checks no precondition on metadata.
    try:
        return store.write(
            claimed.name,
            store.read(claimed.name, generation=claimed.generation),
            content_type=CSV_TYPE,
            metadata={**claimed.metadata, "claimed_by": run_id},
            if_generation=claimed.generation,
        )
    except (ObjectChanged, ObjectMissing) as error:
        raise ClaimLost("another run took the batch over first") from error


def claim_metadata(*, run_id: str, dry_run: bool, clock: Clock) -> dict[str, str]:
    """The custom metadata of `request.csv`: who works on it, how, and since when."""
    return {
        "claimed_by": run_id,
        "mode": "dry_run" if dry_run else "normal",
        "received_at": clock.now().isoformat(),
    }


def parse_batch(
    batch_id: str, *, claimed: ObjectInfo, limits: CsvLimits, store: ObjectStore
) -> BatchRequests:
    """Read the claimed file.

    Raises:
        BatchRejected: with every problem of the file.
    """
    folder = BatchFolder(batch_id)
    check_size(claimed.size, limits)
    data = store.read(folder.request)
    parsed = parse_batch_file(data, limits=limits, own_bucket=store.bucket, owner=folder.owner)
    return BatchRequests(
        batch_id=batch_id,
        owner=folder.owner,
        mode="dry_run" if claimed.metadata.get("mode") == "dry_run" else "normal",
        header=parsed.header,
        requests=parsed.requests,
        received_at=claimed.metadata.get("received_at", claimed.updated_at.isoformat()),
    )
