"""Ledger, Parquet and metadata agree to the micro, or it is said where they do not."""

import pytest

from assetgen_pipeline.domain.bucket_layout import day_costs_name
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.stages.report_costs import batch_disagreements, day_disagreements, report_day
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID
from assetgen_pipeline_tests.reported_costs import (
    FIRST,
    LOST,
    OTHER,
    REFUSED,
    a_day,
    facts_of,
    on_two_days,
    report,
)
from assetgen_pipeline_tests.stage_bench import Bench, some_requests


async def test_ledger_facts_and_metadata_agree_on_a_batch_of_two_days():
    bench = Bench()
    batch = await on_two_days(bench, ScriptedProvider({"S2/1": [LOST, REFUSED]}))
    await bench.generate(batch, run_id="run-2")
    report(bench)

    assert batch_disagreements(BATCH_ID, Money(8_000), services=bench.services) == []


@pytest.mark.parametrize("shown", [None, Money(5_999), Money(6_001)])
async def test_metadata_one_micro_off_is_found(shown):
    bench = Bench()
    await a_day(bench)

    [found] = batch_disagreements(BATCH_ID, shown, services=bench.services)

    assert found.startswith(f"{BATCH_ID}: the ledger says $0.006, the metadata")


async def test_a_fact_one_micro_off_is_found_on_its_batch_and_day():
    bench = Bench()
    await a_day(bench)
    spend = report_day(FIRST, services=bench.services)
    row = facts_of(bench)[0]
    facts_of(bench)[0] = {**row, "cost_micros": row["cost_micros"] + 1}

    [by_batch] = batch_disagreements(BATCH_ID, Money(6_000), services=bench.services)
    [by_day] = day_disagreements(FIRST, spend.settled, spend.entries, services=bench.services)

    assert by_batch == "2026-03-01: the ledger says $0.006, Parquet $0.006001"
    assert by_day == f"{BATCH_ID}: the ledger says $0.006, Parquet $0.006001"


async def test_a_day_whose_daily_file_or_metadata_is_off_is_found():
    bench = Bench()
    await a_day(bench)
    spend = report_day(FIRST, services=bench.services)
    wrong = Money(1)

    [metadata] = day_disagreements(FIRST, wrong, spend.entries, services=bench.services)
    del bench.facts.files[day_costs_name("2026-03-01")]
    [file] = day_disagreements(FIRST, spend.settled, spend.entries, services=bench.services)

    assert metadata == "2026-03-01: the ledger says $0.006, the metadata $0.000001"
    assert file == "2026-03-01: the ledger says $0.006, the daily file nothing"


async def test_a_day_that_moved_since_is_compared_with_what_was_published():
    bench = Bench()
    await a_day(bench)
    spend = report_day(FIRST, services=bench.services)
    other = bench.open(*some_requests(2), batch_id=OTHER)
    await bench.generate(other)

    agreed = day_disagreements(FIRST, spend.settled, spend.entries, services=bench.services)
    [wrong] = day_disagreements(FIRST, Money(1), spend.entries, services=bench.services)

    assert agreed == []
    assert wrong == "2026-03-01: the daily file and the metadata differ"
