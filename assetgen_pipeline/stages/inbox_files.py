"""The files that wait in the inbox: batches to come, which no run has claimed yet."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from assetgen_pipeline.domain.bucket_layout import INBOX, parse_drop
from assetgen_pipeline.ports.object_store import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxFile:
    """A file that waits, and the batch that it becomes."""

    batch_id: str
    owner: str
    dry_run: bool
    dropped_at: datetime


def inbox_files(*, store: ObjectStore, owner: str = "") -> Iterator[InboxFile]:
    """The files of one owner, or of all; what is no batch is left out."""
    for found in store.list(f"{INBOX}{owner}/" if owner else INBOX):
        drop = parse_drop(found.name)
        if drop is not None:
            yield InboxFile(
                batch_id=drop.batch_id(bucket=store.bucket, generation=found.generation),
                owner=drop.owner,
                dry_run=drop.dry_run,
                dropped_at=found.updated_at,
            )
