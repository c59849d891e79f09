"""Batches that ran to their end, and a refresh of their links as the job does it."""

from datetime import timedelta

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.delivery import RefreshCause
from assetgen_pipeline.stages.close_batch import finish_batch, publish_results, settle_batch
from assetgen_pipeline.stages.expiry_index import indexed_within
from assetgen_pipeline.stages.refresh_published import refresh_batch, refresh_horizon
from assetgen_pipeline_tests.builders import BATCH_ID
from assetgen_pipeline_tests.read_results import read_results
from assetgen_pipeline_tests.stage_bench import Bench, some_requests

FOLDER = BatchFolder(BATCH_ID)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
EXPIRING, OPERATOR = RefreshCause.EXPIRING, RefreshCause.OPERATOR
FILES = (FOLDER.results, FOLDER.manifest, FOLDER.status)


async def publish(bench, batch_id=BATCH_ID, count=1):
    """A batch that ran to its end."""
    batch = bench.open(*some_requests(count), batch_id=batch_id)
    await bench.generate(batch)
    settle_batch(batch_id, services=bench.services)
    republish(bench, batch_id)
    return batch


def republish(bench, batch_id=BATCH_ID):
    outcome = bench.outcome(batch_id)
    publish_results(outcome, services=bench.services)
    finish_batch(outcome, services=bench.services)


async def a_published(**services):
    bench = Bench(**services)
    await publish(bench)
    return bench


def refresh(bench, *, cause=EXPIRING, batch_id=BATCH_ID):
    """As the job does it: the index first, then the batch."""
    horizon = refresh_horizon(bench.services.urls)
    due = indexed_within(horizon, bench.clock.now(), store=bench.store)
    return refresh_batch(batch_id, due.get(batch_id, ()), cause=cause, services=bench.services)


def rows(bench):
    return read_results(bench.store)


def generations(bench):
    return {name: bench.store.stat(name).generation for name in FILES}
