"""Verbs on batches that exist: watch, status, results."""

from pathlib import Path

import click

from assetgen_pipeline import wiring
from assetgen_pipeline.cli.output import (
    json_option,
    print_json,
    print_problem,
    status_line,
)
from assetgen_pipeline.cli.watching import watch_batch
from assetgen_pipeline.domain.bucket_layout import OUTBOX, BatchFolder, is_batch_id
from assetgen_pipeline.domain.errors import BatchNotFound, ObjectMissing
from assetgen_pipeline.domain.status import BatchStatus
from assetgen_pipeline.ports import ObjectStore
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.batch_status import read_status


def checked_batch_id(batch_id: str) -> str:
    """Return `batch_id` as it is.

    Raises:
        BatchNotFound: it does not have the form of a batch id.
    """
    if not is_batch_id(batch_id):
        message = f"{batch_id[:160]!r} is not a batch id (owner.name.8-hex-digits)"
        raise BatchNotFound(message)
    return batch_id


@click.command()
@click.argument("batch")
@json_option
def watch(batch: str, *, as_json: bool) -> int:
    """Follow BATCH until it ends; the exit code is the batch's."""
    with wiring.open_object_store(load_settings()) as store:
        return watch_batch(checked_batch_id(batch), store=store, as_json=as_json)


@click.command()
@click.argument("batch", required=False)
@json_option
def status(batch: str | None, *, as_json: bool) -> int:
    """Show BATCH, or all batches, newest last."""
    with wiring.open_object_store(load_settings()) as store:
        if batch is not None:
            found = read_status(checked_batch_id(batch), store=store)
            if as_json:
                print_json(found.model_dump(mode="json"))
                return 0
            click.echo(status_line(found))
            print_problem(found)
            return 0
        everything = sorted(all_statuses(store), key=lambda one: one.started_at or "")
    if as_json:
        print_json([one.model_dump(mode="json") for one in everything])
    for one in [] if as_json else everything:
        click.echo(status_line(one))
    if not everything and not as_json:
        click.echo("no batches yet: assetgen run FILE --owner NAME")
    return 0


def all_statuses(store: ObjectStore) -> list[BatchStatus]:
    """The status of every batch in the outbox."""
    names = [o.name for o in store.list(OUTBOX) if o.name.endswith("/status.json")]
    return [BatchStatus.model_validate_json(store.read(name)) for name in names]


@click.command()
@click.argument("batch")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True)
@json_option
def results(batch: str, output: Path, *, as_json: bool) -> int:
    """Copy the result files of BATCH into a folder."""
    with wiring.open_object_store(load_settings()) as store:
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
    for name in (
        folder.results,
        folder.failed,
        folder.manifest,
        folder.contact_sheet,
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
