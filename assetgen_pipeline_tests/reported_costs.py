"""Batches that cost something, and the facts that are reported of them."""

from datetime import date, timedelta

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.generation import Billing, ErrorKind, ProviderError
from assetgen_pipeline.stages.report_costs import report_costs
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID
from assetgen_pipeline_tests.stage_bench import some_requests

FIRST, SECOND = date(2026, 3, 1), date(2026, 3, 2)
OTHER = "studio.autumn.89abcdef"
REFUSED = ProviderError("no", kind=ErrorKind.INVALID_REQUEST)
LOST = ProviderError("lost", kind=ErrorKind.UNKNOWN_OUTCOME, billing=Billing.MAYBE)


def file_of(day, batch_id=BATCH_ID):
    return BatchFolder(batch_id).costs(day.isoformat())


def report(bench, batch_id=BATCH_ID):
    return report_costs(batch_id, services=bench.services)


def facts_of(bench, day=FIRST):
    return bench.facts.files[file_of(day)]


def told(bench, day, *columns):
    return [tuple(row[column] for column in columns) for row in facts_of(bench, day)]


async def on_two_days(bench, first_day, *, requests=3):
    """A batch whose first run is over, and whose second is on the next budget day."""
    batch = bench.open(*some_requests(requests))
    await bench.generate(batch, first_day)
    bench.ledger.settle(BATCH_ID)
    report(bench)
    bench.clock.advance(timedelta(days=1))
    return batch


async def a_day(bench):
    """A batch of one day: two images delivered, one lost and then refused, one refused."""
    batch = bench.open(*some_requests(4))
    await bench.generate(batch, ScriptedProvider({"S2/1": [LOST, REFUSED], "S3/1": [REFUSED]}))
    bench.ledger.settle(BATCH_ID)
    report(bench)
