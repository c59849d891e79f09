"""The list of batches that `assetgen status` prints: those in the outbox, then those to come."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import click

from assetgen_pipeline.cli.output import print_json, status_line
from assetgen_pipeline.domain.bucket_layout import OUTBOX, BatchFolder
from assetgen_pipeline.domain.errors import BatchNotFound, OwnerInvalid
from assetgen_pipeline.domain.status import BatchState, BatchStatus
from assetgen_pipeline.ports.object_store import ObjectStore
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.stages.inbox_files import InboxFile, inbox_files
from assetgen_pipeline.stages.pausing import read_pauses

# A file that no run has claimed: no batch has this state, and no `status.json` says it.
_INBOX, _IN_THE_INBOX = "inbox", "in the inbox"
STATES = (_INBOX, *(state.value for state in BatchState))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which batches are listed: those of an owner, and in some states; all where empty."""

    owner: str = ""
    states: Collection[str] = ()

    def has(self, state: str) -> bool:
        """Whether batches in this state are listed."""
        return not self.states or state in self.states


def list_batches(wanted: Wanted, *, store: ObjectStore, as_json: bool) -> None:
    """Print what is wanted, newest last."""
    # The inbox first: what a run claims meanwhile is seen in the outbox.
    waiting = list(inbox_files(store=store, owner=wanted.owner))
    known = list(_statuses(wanted.owner, store=store))
    claimed = {status.batch_id for status in known}
    batches = [status for status in known if wanted.has(status.state.value)]
    batches.sort(key=lambda status: status.started_at or "")
    files = [one for one in waiting if wanted.has(_INBOX) and one.batch_id not in claimed]
    files.sort(key=lambda one: one.dropped_at)
    if as_json:
        documents = [status.model_dump(mode="json") for status in batches]
        print_json([*documents, *(_document(one, bucket=store.bucket) for one in files)])
        return
    for pause in read_pauses(store=store).pauses:
        click.echo(pause.sentence())
    for status in batches:
        click.echo(status_line(status))
    for one in files:
        since = one.dropped_at.isoformat(timespec="seconds")
        click.echo(f"{click.style(_IN_THE_INBOX, fg='cyan')}  {one.batch_id}  since {since}")
    if not batches and not files:
        none_yet = "no batches yet: assetgen run FILE --owner NAME"
        click.echo(none_yet if wanted == Wanted() else "no batch of that owner or in that state")


def _statuses(owner: str, *, store: ObjectStore) -> Iterator[BatchStatus]:
    """The status of every batch in the outbox, or of one owner's."""
    prefix = f"{OUTBOX}{owner}/" if owner else OUTBOX
    names = [found.name for found in store.list(prefix) if found.name.endswith("/status.json")]
    for batch_id in (name.split("/")[-2] for name in names):
        try:
            yield read_status(batch_id, store=store)
        except (BatchNotFound, OwnerInvalid) as error:
            click.echo(f"left out  {error}", err=True)


def _document(one: InboxFile, *, bucket: str) -> dict[str, object]:
    """A file that waits, with the fields that the status of its batch will have."""
    status = BatchStatus(
        batch_id=one.batch_id,
        owner=one.owner,
        state=BatchState.RECEIVED,
        mode="dry_run" if one.dry_run else "normal",
        updated_at=one.dropped_at.isoformat(),
        outbox=f"gs://{bucket}/{BatchFolder(one.batch_id).prefix}",
    )
    return {**status.model_dump(mode="json"), "state": _IN_THE_INBOX}
