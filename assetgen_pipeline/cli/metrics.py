"""`assetgen metrics`: Prometheus text from books, bucket and instance, each read on its own."""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import click

from assetgen_pipeline.cli.output import json_option, print_json
from assetgen_pipeline.domain.metrics import (
    Sample,
    books_samples,
    days_samples,
    exposition,
    figures_samples,
    instance_samples,
    sample,
)
from assetgen_pipeline.settings import Settings, load_settings
from assetgen_pipeline.stages.conditions import unclaimed_drops
from assetgen_pipeline.stages.measure import measure_batches, measure_inbox, measure_links
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.clock import open_clock
from assetgen_pipeline.wiring.deployment import csv_limits
from assetgen_pipeline.wiring.ledger import open_ledger

logger = logging.getLogger(__name__)

_RECENT = timedelta(hours=24)
_MOST_BATCHES = 500


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a file, whole or not at all (for the textfile collector).",
)
@json_option
def metrics(output: Path | None, *, as_json: bool) -> int:
    """Print metrics for Prometheus; exit 1 where a source could not be read."""
    settings = load_settings()
    samples = gather(settings)
    if output is not None:
        partial = output.with_name(output.name + ".part")
        partial.write_text(exposition(samples), encoding="utf-8")
        partial.replace(output)
    if as_json:
        print_json([one.model_dump() for one in samples])
    elif output is None:
        click.echo(exposition(samples), nl=False)
    return 0 if all(one.value for one in samples if one.name == "assetgen_source_up") else 1


def gather(settings: Settings) -> list[Sample]:
    """Everything that can be read now; what cannot be read hides nothing else."""
    clock = open_clock()
    began, scrape = clock.monotonic(), _Scrape(settings, clock.now())
    samples = [sample("build_info", 1, version("assetgen-pipeline"))]
    sources: dict[str, Callable[[], list[Sample]]] = {
        "ledger": scrape.ledger,
        "dagster": scrape.dagster,
        "bucket": scrape.bucket,
    }
    for source, read in sources.items():
        try:
            samples += read()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this source's
            logger.warning("%s could not be read: %s", source, error)
            samples.append(sample("source_up", 0, source))
        else:
            samples.append(sample("source_up", 1, source))
    samples.append(sample("scrape_duration_seconds", round(clock.monotonic() - began, 3)))
    return samples


@dataclass(slots=True)
class _Scrape:
    """One reading of every source."""

    settings: Settings
    now: datetime
    recent: list[str] | None = None
    """The batches that Dagster worked on lately, `None` where it could not be asked."""
    under_way: Collection[tuple[str, int]] = ()
    """The drops that a run is queued or live for, none where Dagster could not be asked."""

    def ledger(self) -> list[Sample]:
        with open_ledger(self.settings) as ledger:
            return [
                *figures_samples(ledger.figures()),
                *days_samples(ledger.days(), ledger.project_day()),
                *books_samples(
                    ledger.open_holds(),
                    ledger.verify(),
                    len(ledger.assumed_attempts()),
                    now=self.now,
                ),
            ]

    def dagster(self) -> list[Sample]:
        from assetgen_pipeline.defs import inspection

        samples = instance_samples(inspection.instance_health(self.settings, now=self.now))
        self.recent = inspection.recent_batches(
            self.settings, now=self.now, within=_RECENT, limit=_MOST_BATCHES
        )
        self.under_way = inspection.drops_in_runs(self.settings)
        return samples

    def bucket(self) -> list[Sample]:
        with open_object_store(self.settings) as store:
            unclaimed = unclaimed_drops(
                store=store,
                under_way=self.under_way,
                max_bytes=csv_limits(self.settings).max_bytes,
                owners=self.settings.inbox_owners,
                provider=self.settings.provider,
            )
            samples = [
                *measure_inbox(unclaimed, now=self.now),
                *measure_links(store=store, now=self.now),
            ]
            if self.recent is not None:
                samples += measure_batches(self.recent, store=store)
            return samples
