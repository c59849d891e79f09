"""The index of links that end: one empty object per published batch, under its UTC hour.

Its names sort by hour, so whoever looks for what is due reads the front of one listing and
no more. An entry is written before the results that it speaks of and the former one is
removed after them: a crash in between leaves one entry too many, never one too few.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from assetgen_pipeline.domain.bucket_layout import EXPIRY_INDEX, BatchFolder, parse_expiry
from assetgen_pipeline.domain.delivery import LinkLife
from assetgen_pipeline.domain.refresh_plan import IndexEntry
from assetgen_pipeline.ports.object_store import ObjectStore


def index_links(batch_id: str, life: LinkLife, *, store: ObjectStore) -> str:
    """Note when a batch's links end; returns the entry's name.

    Raises:
        StorageUnavailable: the bucket cannot be reached.
    """
    name = BatchFolder(batch_id).expiry(life.expires_at)
    store.write(name, b"", content_type="text/plain", metadata=life.as_metadata())
    return name


def indexed_until(until: datetime, *, store: ObjectStore) -> Iterator[IndexEntry]:
    """The entries of every hour up to the one that `until` is in, oldest first.

    Raises:
        StorageUnavailable: the bucket cannot be reached.
    """
    for found in store.list(EXPIRY_INDEX):
        parsed = parse_expiry(found.name)
        if parsed is None:
            continue
        hour, batch_id = parsed
        if hour > until:
            return
        yield IndexEntry(
            name=found.name,
            key=f"{found.name}#{found.generation}",
            batch_id=batch_id,
            life=LinkLife.from_metadata(found.metadata, hour=hour),
        )


def indexed_within(
    left: timedelta, now: datetime, *, store: ObjectStore
) -> dict[str, list[IndexEntry]]:
    """The entries of links with no more than `left` before them, by batch, oldest first.

    Raises:
        StorageUnavailable: the bucket cannot be reached.
    """
    entries: dict[str, list[IndexEntry]] = {}
    for entry in indexed_until(now + left, store=store):
        if entry.life.expires_at - now <= left:
            entries.setdefault(entry.batch_id, []).append(entry)
    return entries
