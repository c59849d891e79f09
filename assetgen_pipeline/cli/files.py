"""Verbs on files: print a template, validate, drop in the inbox."""

import secrets
from collections.abc import Sequence
from pathlib import Path

import click

from assetgen_pipeline.cli.output import counted, json_option, print_json, printable
from assetgen_pipeline.domain.batch_file import parse_batch_file
from assetgen_pipeline.domain.bucket_layout import (
    batch_id_for,
    checked_owner,
    inbox_name,
    parse_drop,
)
from assetgen_pipeline.domain.errors import BatchRejected, FileProblem, ObjectExists
from assetgen_pipeline.domain.image_request import BatchRequests
from assetgen_pipeline.domain.result_files import template_csv
from assetgen_pipeline.ports.object_store import ObjectInfo, ObjectStore
from assetgen_pipeline.settings import Settings, load_settings
from assetgen_pipeline.stages.pausing import read_pauses
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.deployment import csv_limits, open_deployment

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@json_option
def template(*, as_json: bool) -> None:
    """Print a CSV to start from."""
    text = template_csv().decode()
    if as_json:
        print_json({"columns": text.splitlines()[0].split(","), "csv": text})
    else:
        click.echo(text, nl=False)


@click.command()
@click.argument("file", type=FILE)
@click.option("--owner", default="owner", help="Whose bucket folders references may name.")
@json_option
def validate(file: Path, owner: str, *, as_json: bool) -> int:
    """Check FILE and price it, offline: every problem at once, nothing spent."""
    from assetgen_pipeline.stages.reserve_budget import price_batch

    settings = load_settings()
    batch, problems, found = read_batch(file, owner=checked_owner(owner), settings=settings)
    name = printable(file.name)
    document: dict[str, object] = {"valid": batch is not None, "file": name}
    if batch is not None:
        deployment = open_deployment(settings)
        price = deployment.catalogue.price(deployment.provider, deployment.model)
        document |= {
            "rows": len(batch.requests),
            "images": batch.images_requested,
            "estimate_usd": price_batch(batch, price=price).usd(),
            "provider": deployment.provider,
            "model": deployment.model,
            "price_is_nominal": price.nominal,
            "price_version": deployment.catalogue.version,
        }
    document["problem_count"] = found
    document["problems"] = [
        {"line": p.line, "column": p.column, "code": p.code, "detail": p.detail} for p in problems
    ]
    if as_json:
        print_json(document)
        return 0 if batch is not None else 2
    if batch is not None:
        click.echo(
            f"valid   {name}: {counted(len(batch.requests), 'row')},"
            f" {counted(batch.images_requested, 'image')},"
            f" at most ${document['estimate_usd']} with {document['provider']}/{document['model']}"
            + (" (a nominal price: the local renderer sends no bill)" if price.nominal else "")
        )
        return 0
    click.echo(f"REJECTED {name}: {counted(found, 'problem')}; nothing was generated or spent")
    _print_problems(problems)
    return 2


def _print_problems(problems: Sequence[FileProblem], *, err: bool = False) -> None:
    for problem in problems:
        where = f"line {problem.line:<5} {problem.column:<16}"
        click.echo(printable(f"  {where} {problem.code}: {problem.detail}"), err=err)


def read_batch(
    file: Path, *, owner: str, settings: Settings
) -> tuple[BatchRequests | None, tuple[FileProblem, ...], int]:
    """Parse a local file: the batch, or its problems and how many there are."""
    limits = csv_limits(settings)
    try:
        parsed = parse_batch_file(
            file.read_bytes(), limits=limits, own_bucket=settings.bucket, owner=owner
        )
    except BatchRejected as rejected:
        return None, rejected.problems, rejected.total
    batch = BatchRequests(
        batch_id="",
        owner=owner,
        mode="normal",
        header=parsed.header,
        requests=parsed.requests,
        received_at="",
    )
    return batch, (), 0


@click.command()
@click.argument("file", type=FILE)
@click.option("--owner", required=True, help="The budget account: the folder under inbox/.")
@click.option("--dry-run", is_flag=True, help="Validate and price only.")
@click.option("--watch", is_flag=True, help="Follow the batch until it ends.")
@json_option
def submit(file: Path, owner: str, *, dry_run: bool, watch: bool, as_json: bool) -> int:
    """Drop FILE in the owner's inbox; the sensor of a running stack takes it.

    An invalid file is dropped too, with a warning: the deployment's own settings decide.
    """
    from assetgen_pipeline.cli.batches import follow

    settings = load_settings()
    with open_object_store(settings) as store:
        batch_id = drop_file(file, owner=owner, dry_run=dry_run, store=store)
        if watch:
            return follow(batch_id, settings=settings, store=store, as_json=as_json)
        if as_json:
            print_json({"dry_run": dry_run, "batch_id": batch_id})
        else:
            click.echo(f"dropped {batch_id}\nfollow  assetgen watch {batch_id}")
            stopping = read_pauses(store=store).stopping(owner, settings.provider)
            if stopping is not None:
                click.echo(f"waits   {stopping.sentence()}")
    _warn_of_problems(file, owner=owner, settings=settings)
    return 0


def _warn_of_problems(file: Path, *, owner: str, settings: Settings) -> None:
    """Say at once what the run will reject; who watches the batch is told by its results."""
    batch, problems, found = read_batch(file, owner=owner, settings=settings)
    if batch is None:
        click.echo(
            f"warning {printable(file.name)}: {counted(found, 'problem')};"
            " it will be rejected, nothing spent",
            err=True,
        )
        _print_problems(problems, err=True)


def drop_file(file: Path, *, owner: str, dry_run: bool, store: ObjectStore) -> str:
    """Upload a file to the inbox and return the id of the batch that it becomes.

    Where a file of its name still waits there, it is dropped beside it under another.
    """
    token = secrets.token_hex(4)
    for name in (file.name, f"{file.stem}-{token}{file.suffix}"):
        placed = inbox_name(checked_owner(owner), name, dry_run=dry_run)
        drop = parse_drop(placed)
        if drop is None:
            message = f"{file.name!r} is not the name of a CSV; end it with .csv, in UTF-8"
            raise click.UsageError(message)
        info = _upload(placed, file.read_bytes(), token=token, store=store)
        if info is not None:
            return batch_id_for(
                owner=owner,
                stem=drop.stem,
                bucket=store.bucket,
                name=placed,
                generation=info.generation,
            )
    raise AssertionError("unreachable")


def _upload(name: str, data: bytes, *, token: str, store: ObjectStore) -> ObjectInfo | None:
    """The new object; `None` where somebody else's has the name."""
    try:
        return store.create(name, data, content_type="text/csv", metadata={"drop": token})
    except ObjectExists:
        # Ours, where only the answer to the upload was lost.
        found = store.stat(name)
        return found if found is not None and found.metadata.get("drop") == token else None
