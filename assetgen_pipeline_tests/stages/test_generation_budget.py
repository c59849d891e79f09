"""Generating at the end of a budget."""

from assetgen_pipeline.domain.generation import (
    ErrorKind,
)
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import (
    OWNER,
    an_answer,
    an_error,
)
from assetgen_pipeline_tests.stage_bench import ONE_IMAGE, Bench, some_requests, stopped_by


async def test_a_budget_used_up_while_retrying_fails_that_image_and_no_other():
    bench = Bench(limit="0.006")
    batch = bench.open(*some_requests(3))
    lost = an_error(ErrorKind.UNKNOWN_OUTCOME)
    provider = ScriptedProvider({"S1/1": [lost]})

    report = await bench.generate(batch, provider, concurrency=1)

    assert len(provider.requests) == 3
    assert stopped_by(report) == ""
    assert (report.generated, report.failed, report.not_attempted) == (2, 1, 0)
    assert report.refused["S1/1"].code == "budget-exceeded"
    assert bench.ledger.day(OWNER).settled == ONE_IMAGE * 3
    assert bench.broken() == []


async def test_a_paid_retry_never_takes_the_cover_of_an_image_that_had_no_turn():
    bench = Bench(limit="0.006")
    batch = bench.open(*some_requests(3))
    empty = an_error(ErrorKind.NO_OUTPUT, cost=ONE_IMAGE)
    provider = ScriptedProvider({"S1/1": [empty]})

    report = await bench.generate(batch, provider, concurrency=1)

    called = [request.image.item_key for request in provider.requests]
    assert called == ["S1/1", "S2/1", "S3/1"]
    assert list(report.refused) == ["S1/1"]
    assert report.generated == 2


async def test_what_the_only_shards_hold_has_to_spare_pays_for_a_second_try_at_the_end():
    bench = Bench(limit="0.006")
    batch = bench.open(*some_requests(3))
    lost = an_error(ErrorKind.UNKNOWN_OUTCOME)
    cheap = an_answer(cost=1_000)
    provider = ScriptedProvider({"S1/1": [lost, cheap]}, default=[cheap])

    report = await bench.generate(batch, provider, alone=True)

    assert report.generated == 3
    assert bench.outcome().spent() == ONE_IMAGE + Money(1_000) * 3
    assert bench.broken() == []


async def test_an_image_that_the_budget_never_covered_is_not_attempted():
    bench = Bench(limit="0.002")
    hold = bench.reserve(bench.open()).hold
    batch = bench.open(*some_requests(2))
    provider = ScriptedProvider()

    report = await bench.generate(batch, provider, hold=hold, concurrency=1)

    assert len(provider.requests) == 1
    assert (report.generated, report.failed, report.not_attempted) == (1, 0, 1)
    assert report.refused["S2/1"].code == "budget-exceeded"


async def test_a_retry_after_a_bill_extends_the_hold_within_the_days_limit():
    bench = Bench(limit="0.004")
    lost = an_error(ErrorKind.UNKNOWN_OUTCOME)
    provider = ScriptedProvider(default=[lost, an_answer(cost=2_000)])

    report = await bench.generate(bench.open(), provider)

    assert report.generated == 1
    assert bench.outcome().spent() == Money(4_000)
    assert bench.outcome().images[0].cost_basis == "assumed"
