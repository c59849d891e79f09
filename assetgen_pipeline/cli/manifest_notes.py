"""What commands tell people of an ended batch's rows, from its manifest."""

from collections.abc import Sequence

import click
from pydantic import BaseModel, ValidationError

from assetgen_pipeline.cli.output import counted, printable
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import ObjectMissing
from assetgen_pipeline.domain.status import BatchStatus
from assetgen_pipeline.ports.object_store import ObjectStore

_FAILURES_SHOWN = 20


class _Image(BaseModel):
    """What the notes need of one image."""

    variant: int
    status: str
    error_code: str
    error: str


class _Row(BaseModel):
    """What the notes need of one row."""

    scene_id: str
    status: str
    references_unfetched: tuple[str, ...]
    images: tuple[_Image, ...]


class _Manifest(BaseModel):
    """What the notes need of `manifest.json`."""

    rows: tuple[_Row, ...]


Rows = Sequence[_Row]


def manifest_rows(batch_id: str, *, store: ObjectStore) -> Rows:
    """The rows of `manifest.json`; none where there is no manifest, or a damaged one.

    Raises:
        StorageUnavailable: the bucket cannot be reached.
    """
    name = BatchFolder(batch_id).manifest
    try:
        return _Manifest.model_validate_json(store.read(name)).rows
    except ObjectMissing:
        return ()
    except ValidationError:
        click.echo(f"left out  {name} is damaged", err=True)
        return ()


def print_failures(status: BatchStatus, rows: Rows) -> None:
    """Name the first images that are not there, with the reason of each."""
    missing = [
        printable(f"  {row.scene_id} v{image.variant}  {image.error_code}: {image.error}")
        for row in rows
        for image in row.images
        if image.status != "delivered"
    ]
    for line in missing[:_FAILURES_SHOWN]:
        click.echo(line)
    if len(missing) > _FAILURES_SHOWN:
        click.echo(f"  … and {len(missing) - _FAILURES_SHOWN} more in results.csv")
    if missing and not status.problem:
        click.echo(f"  fix: assetgen retry {status.batch_id}")


def print_unfetched(rows: Rows) -> None:
    """Say how many rows went on without a reference that they name."""
    without = sum(bool(row.references_unfetched) and row.status != "not_attempted" for row in rows)
    if without:
        click.echo(f"  {counted(without, 'row')} without some references: see results.csv")
