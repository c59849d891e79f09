"""Verbs on batches that exist: watch, status, results."""

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from assetgen_pipeline.cli.batch_list import STATES, Wanted, list_batches
from assetgen_pipeline.cli.manifest_notes import manifest_rows, print_failures, print_unfetched
from assetgen_pipeline.cli.output import json_option, print_json, print_problem, status_line
from assetgen_pipeline.cli.watching import backoff_s, watch_batch, what_holds_it_up
from assetgen_pipeline.domain.bucket_layout import BatchFolder, checked_owner, is_batch_id, owner_of
from assetgen_pipeline.domain.errors import BatchNotFound, ObjectMissing, StorageUnavailable
from assetgen_pipeline.domain.status import BatchStatus, is_terminal
from assetgen_pipeline.ports.object_store import ObjectStore
from assetgen_pipeline.settings import Settings, load_settings
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.stages.pausing import read_pauses
from assetgen_pipeline.stages.stage_progress import read_progress
from assetgen_pipeline.stages.stop_batch import find_drop
from assetgen_pipeline.wiring.bucket import open_object_store, revive_bucket

_PAGE = re.compile(r"[0-9]{1,6}\.html")
# A call that fails is soon tried again by whoever watches.
_RETRY_S = 3.0


def checked_batch_id(batch_id: str) -> str:
    """Return `batch_id` as it is.

    Raises:
        click.UsageError: it does not have the form of a batch id.
    """
    if not is_batch_id(batch_id):
        message = f"{batch_id[:160]!r} is not a batch id (owner.name.8-hex-digits)"
        raise click.UsageError(message)
    return batch_id


@click.command()
@click.argument("batch")
@json_option
def watch(batch: str, *, as_json: bool) -> int:
    """Follow BATCH until it ends or waits for approval; the exit code is the batch's.

    Goes on while the bucket, the network, the web server or the daemon are away. Ctrl-C
    stops watching; the batch goes on.
    """
    settings = load_settings()
    checked_batch_id(batch)
    with open_patiently(settings) as store:
        return follow(batch, settings=settings, store=store, as_json=as_json)


def follow(batch_id: str, *, settings: Settings, store: ObjectStore, as_json: bool) -> int:
    """Watch a batch, and say at its end which rows went on without references; its exit code."""
    code = watch_batch(
        batch_id, store=store, as_json=as_json, reconnect=lambda: revive_bucket(settings)
    )
    if not as_json:
        note_unfetched(batch_id, store=store)
    return code


def note_unfetched(batch_id: str, *, store: ObjectStore) -> None:
    """Say how many rows of an ended batch went on without references; the end is said already."""
    try:
        print_unfetched(manifest_rows(batch_id, store=store))
    except StorageUnavailable as error:
        click.echo(f"left out  the rows without references: {error}", err=True)


@contextmanager
def open_patiently(settings: Settings) -> Iterator[ObjectStore]:
    """Open the bucket as soon as it is there, with calls that give up soon."""
    pause, failures = threading.Event(), 0
    with ExitStack() as stack:
        while True:
            try:
                opened = open_object_store(settings, retry_for_s=_RETRY_S)
                store = stack.enter_context(opened)
            except StorageUnavailable:
                if not failures:
                    click.echo("bucket unreachable; trying again", err=True)
                failures += 1
                pause.wait(backoff_s(failures))
            else:
                break
        yield store


@click.command()
@click.argument("batch", required=False)
@click.option("--owner", help="Of the list, only the batches of this owner.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(STATES),
    help="Of the list, only what is in this state, or in one of these.",
)
@json_option
def status(batch: str | None, *, owner: str | None, states: tuple[str, ...], as_json: bool) -> int:
    """Show BATCH, or all batches, newest last; then the files that wait in the inbox.

    `inbox` is the state of a file that no run has claimed yet.
    """
    if batch is not None and (owner is not None or states):
        raise click.UsageError("--owner and --state are for the list, not for one BATCH")
    wanted = Wanted(owner=checked_owner(owner) if owner is not None else "", states=states)
    with open_object_store(load_settings()) as store:
        if batch is None:
            list_batches(wanted, store=store, as_json=as_json)
        else:
            _show(checked_batch_id(batch), store=store, as_json=as_json)
    return 0


def _show(batch_id: str, *, store: ObjectStore, as_json: bool) -> None:
    found = _status_of(batch_id, store=store)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    click.echo(status_line(found))
    print_problem(found)
    if is_terminal(found.state):
        rows = manifest_rows(batch_id, store=store)
        print_failures(found, rows)
        print_unfetched(rows)
    note = what_holds_it_up(found, read_progress(batch_id, store=store), store=store)
    if note:
        click.echo(f"  {note}")


def _status_of(batch_id: str, *, store: ObjectStore) -> BatchStatus:
    """The batch's status.

    Raises:
        BatchNotFound: nobody knows it, or no run has taken it from the inbox yet.
    """
    try:
        return read_status(batch_id, store=store)
    except BatchNotFound:
        if find_drop(batch_id, store=store) is None:
            raise
    paused = read_pauses(store=store).stopping(owner_of(batch_id), "")
    why = paused.sentence() if paused is not None else "a daemon takes it from there"
    message = f"{batch_id} is still in the inbox; {why}"
    raise BatchNotFound(message)


@click.command()
@click.argument("batch")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="The folder; it is made where it does not exist.",
)
@json_option
def results(batch: str, output: Path, *, as_json: bool) -> int:
    """Copy the result files of BATCH into a folder."""
    with open_object_store(load_settings()) as store:
        read_status(checked_batch_id(batch), store=store)
        written = copy_results(batch, output, store=store)
    if as_json:
        print_json({"batch_id": batch, "files": [str(path) for path in written]})
    for path in [] if as_json else written:
        click.echo(str(path))
    return 0


def copy_results(batch_id: str, output: Path, *, store: ObjectStore) -> list[Path]:
    """Write every result file that the batch has; returns the paths."""
    folder = BatchFolder(batch_id)
    output.mkdir(parents=True, exist_ok=True)
    written = []
    # A sheet of more than a thousand images has further pages beside the first. Nothing else that
    # somebody put there is copied: its name could be that of any file in the folder.
    first = f"{folder.prefix}contact-sheet-"
    pages = [
        found.name for found in store.list(first) if _PAGE.fullmatch(found.name.removeprefix(first))
    ]
    for name in (
        folder.results,
        folder.failed,
        folder.manifest,
        folder.contact_sheet,
        *pages,
        folder.problem,
        folder.status,
    ):
        try:
            data = store.read(name)
        except ObjectMissing:
            continue
        path = output / name.rpartition("/")[2]
        partial = path.with_name(path.name + ".part")
        partial.write_bytes(data)
        partial.replace(path)
        written.append(path)
    return written
