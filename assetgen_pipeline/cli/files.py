"""Verbs on files: print a template, validate, drop in the inbox."""

from pathlib import Path

import click

from assetgen_pipeline import wiring
from assetgen_pipeline.cli.output import json_option, print_json
from assetgen_pipeline.domain.batch_file import parse_batch_file
from assetgen_pipeline.domain.bucket_layout import (
    batch_id_for,
    checked_owner,
    inbox_name,
    parse_drop,
)
from assetgen_pipeline.domain.errors import BatchRejected, FileProblem
from assetgen_pipeline.domain.image_request import BatchRequests
from assetgen_pipeline.domain.result_files import template_csv
from assetgen_pipeline.ports import ObjectStore
from assetgen_pipeline.settings import Settings, load_settings

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
def template() -> None:
    """Print a CSV to start from."""
    click.echo(template_csv(), nl=False)


@click.command()
@click.argument("file", type=FILE)
@click.option("--owner", default="owner", help="Whose bucket folders references may name.")
@json_option
def validate(file: Path, owner: str, *, as_json: bool) -> int:
    """Check FILE and price it, offline: every problem at once, nothing spent."""
    from assetgen_pipeline.stages.reserve_budget import price_batch

    settings = load_settings()
    batch, problems, found = read_batch(file, owner=owner, settings=settings)
    document: dict[str, object] = {"valid": batch is not None, "file": file.name}
    if batch is not None:
        deployment = wiring.deployment(settings)
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
            f"valid   {file.name}: {document['rows']} rows, {document['images']} images,"
            f" at most ${document['estimate_usd']} with {document['provider']}/{document['model']}"
            + (" (a nominal price: the local renderer sends no bill)" if price.nominal else "")
        )
        return 0
    click.echo(f"REJECTED {file.name}: {found} problems; nothing was generated or spent")
    for problem in problems:
        click.echo(f"  line {problem.line:<5} {problem.column:<16} {problem.detail}")
    return 2


def read_batch(
    file: Path, *, owner: str, settings: Settings
) -> tuple[BatchRequests | None, tuple[FileProblem, ...], int]:
    """Parse a local file: the batch, or its problems and how many there are."""
    limits = wiring.csv_limits(settings)
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
    """Drop FILE in the owner's inbox; the sensor of a running stack takes it."""
    from assetgen_pipeline.cli.watching import watch_batch

    settings = load_settings()
    with wiring.open_object_store(settings) as store:
        batch_id = drop_file(file, owner=owner, dry_run=dry_run, store=store)
        if not watch:
            if as_json:
                print_json({"batch_id": batch_id})
            else:
                click.echo(f"dropped {batch_id}\nfollow  assetgen watch {batch_id}")
            return 0
        return watch_batch(batch_id, store=store, as_json=as_json)


def drop_file(file: Path, *, owner: str, dry_run: bool, store: ObjectStore) -> str:
    """Upload a file to the inbox and return the id of the batch that it becomes."""
    name = inbox_name(checked_owner(owner), file.name, dry_run=dry_run)
    drop = parse_drop(name)
    if drop is None:
        message = f"{file.name!r} is not the name of a CSV; end it with .csv"
        raise click.UsageError(message)
    info = store.write(name, file.read_bytes(), content_type="text/csv")
    return batch_id_for(
        owner=owner,
        stem=drop.stem,
        bucket=store.bucket,
        name=name,
        generation=info.generation,
    )
