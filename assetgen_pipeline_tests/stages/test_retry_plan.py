"""What a retry would make and cost."""

from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.domain.money import ZERO
from assetgen_pipeline.stages.retry_plan import plan_retry
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.stage_bench import (
    CATALOGUE,
    MODEL,
    ONE_IMAGE,
    PROVIDER,
    Bench,
    some_requests,
)


def plan(bench, batch, scenes=None):
    price = CATALOGUE.price(PROVIDER, MODEL)
    return plan_retry(batch, bench.attempts(), price=price, scenes=scenes)


async def test_only_what_is_not_delivered_would_be_made_and_paid():
    bench = Bench()
    batch = bench.open(*some_requests(3, variants=2))
    await bench.shard_of(batch, count=3)

    found = plan(bench, batch)

    assert (found.scenes, found.images) == (("S2", "S3"), 3)
    assert found.estimate == ONE_IMAGE * 3


async def test_a_retry_of_some_rows_leaves_the_others_out():
    bench = Bench()
    batch = bench.open(*some_requests(3))
    await bench.shard_of(batch, count=1)

    found = plan(bench, batch, scenes={"S1", "S3"})

    assert (found.scenes, found.images, found.estimate) == (("S3",), 1, ONE_IMAGE)


async def test_what_the_provider_blocked_is_not_tried_again():
    bench = Bench()
    batch = bench.open(*some_requests(2))
    blocked = ProviderError("no", kind=ErrorKind.CONTENT_BLOCKED)
    await bench.generate(batch, ScriptedProvider({"S1/1": [blocked]}))

    found = plan(bench, batch)

    assert (found.images, found.estimate) == (0, ZERO)


async def test_a_delivered_batch_would_cost_nothing():
    bench = Bench()
    batch = bench.open(*some_requests(2))
    await bench.generate(batch)

    assert plan(bench, batch).estimate == ZERO
