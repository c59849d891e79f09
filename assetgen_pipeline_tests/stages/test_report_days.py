"""A budget day's costs: by owner, provider and model; when they are final."""

from datetime import timedelta
from decimal import Decimal

import pytest

from assetgen_pipeline.domain.bucket_layout import day_costs_name
from assetgen_pipeline.domain.day_spend import DAY_COLUMNS
from assetgen_pipeline.domain.errors import BudgetRefused
from assetgen_pipeline.domain.money import ZERO
from assetgen_pipeline.stages.report_costs import day_disagreements, report_day
from assetgen_pipeline_tests.builders import BATCH_ID, OWNER
from assetgen_pipeline_tests.reported_costs import FIRST, OTHER, a_day, file_of
from assetgen_pipeline_tests.stage_bench import MODEL, PROVIDER, Bench, some_requests


async def test_a_day_is_summed_by_owner_provider_and_model():
    bench = Bench(limit="0.1")
    await a_day(bench)
    for _ in range(2):
        with pytest.raises(BudgetRefused):
            bench.reserve(bench.open(*some_requests(60), batch_id=OTHER))

    spend = report_day(FIRST, services=bench.services)

    rows = bench.facts.files[day_costs_name("2026-03-01")]
    assert [list(row) for row in rows] == [[column.name for column in DAY_COLUMNS]] * 2
    shown = ("provider", "model", "images", "delivered", "attempts")
    money = ("settled_micros", "assumed_micros", "refused_batches", "refused_micros")
    assert [tuple(row[name] for name in shown + money) for row in rows] == [
        ("", "", 0, 0, 0, 0, 0, 1, 120_000),
        (PROVIDER, MODEL, 4, 2, 5, 6_000, 2_000, 0, 0),
    ]
    assert {row["limit_usd"] for row in rows} == {Decimal("0.100000")}
    assert spend.settled == bench.ledger.day(OWNER).settled
    assert not spend.is_final


async def test_a_day_is_final_once_it_is_over_and_nothing_of_it_is_unknown():
    bench = Bench()
    await bench.generate(bench.open(*some_requests(1)))
    assert not report_day(FIRST, services=bench.services).is_final
    bench.clock.advance(timedelta(days=1))
    assert not report_day(FIRST, services=bench.services).is_final
    bench.ledger.settle(BATCH_ID)

    assert report_day(FIRST, services=bench.services).is_final


async def test_reporting_a_day_mends_the_files_that_lag_behind():
    bench = Bench()
    await a_day(bench)
    del bench.facts.files[file_of(FIRST)]

    report_day(FIRST, services=bench.services)

    assert bench.facts.batch_cost(BATCH_ID, FIRST) == bench.ledger.day(OWNER).settled


async def test_a_batch_that_still_runs_is_left_alone():
    bench = Bench()
    await bench.generate(bench.open(*some_requests(1)))

    spend = report_day(FIRST, services=bench.services)

    assert spend.open_batches == {BATCH_ID}
    assert list(bench.facts.files) == [day_costs_name("2026-03-01")]
    shown, entries = spend.settled, spend.entries
    assert day_disagreements(FIRST, shown, entries, services=bench.services) == []


async def test_a_day_without_anything_has_a_file_without_rows():
    bench = Bench()

    spend = report_day(FIRST, services=bench.services)

    assert (spend.settled, spend.entries) == (ZERO, 0)
    assert bench.facts.files == {day_costs_name("2026-03-01"): []}
