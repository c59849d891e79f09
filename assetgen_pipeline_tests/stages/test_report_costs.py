"""Cost facts: one row per requested image."""

from datetime import date, timedelta

from assetgen_pipeline.domain.generation import Billing, ErrorKind, ProviderError
from assetgen_pipeline.stages.report_costs import cost_rows, report_costs
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, NOW, OWNER, RUN_ID
from assetgen_pipeline_tests.stage_bench import CATALOGUE, MODEL, PROVIDER, Bench, some_requests

TODAY = date(2026, 3, 1)


def facts_of(bench, *, budget_date=TODAY):
    return cost_rows(bench.outcome(), bucket=BUCKET, budget_date=budget_date, run_id=RUN_ID)


async def test_a_paid_image_has_every_column_of_the_contract():
    bench = Bench()
    await bench.generate(bench.open(*some_requests(1)))

    [fact] = facts_of(bench)

    name = bench.attempts()[0].image.object_name
    assert fact == {
        "dt": "2026-03-01",
        "batch_id": BATCH_ID,
        "owner": OWNER,
        "scene_id": "S1",
        "row_number": 1,
        "variant": 1,
        "provider": PROVIDER,
        "model": MODEL,
        "status": "delivered",
        "attempts": 1,
        "cost_micros": 2_000,
        "cost_usd": "0.002000",
        "cost_basis": "flat",
        "price_version": CATALOGUE.version,
        "lane": "stable",
        "spend_date": "2026-03-01",
        "budget_date": "2026-03-01",
        "latency_ms": 0,
        "created_at": NOW.isoformat(),
        "run_id": RUN_ID,
        "image_uri": f"gs://{BUCKET}/{name}",
    }


async def test_an_image_never_attempted_costs_nothing_on_the_day_given():
    bench = Bench()
    bench.open(*some_requests(1))

    [fact] = facts_of(bench, budget_date=date(2026, 3, 2))

    assert (fact["dt"], fact["budget_date"], fact["spend_date"]) == ("2026-03-02",) * 3
    assert (fact["status"], fact["cost_micros"], fact["cost_basis"]) == ("not_attempted", 0, "none")
    assert (fact["run_id"], fact["created_at"], fact["image_uri"]) == (RUN_ID, "", "")


async def test_cost_and_attempts_are_summed_over_all_attempts_of_an_image():
    bench = Bench()
    lost = ProviderError("lost", kind=ErrorKind.UNKNOWN_OUTCOME, billing=Billing.MAYBE)
    await bench.generate(bench.open(*some_requests(1)), ScriptedProvider(default=[lost, lost]))

    [fact] = facts_of(bench)

    assert (fact["attempts"], fact["cost_micros"], fact["cost_basis"]) == (2, 4_000, "assumed")
    assert fact["status"] == "failed"


async def test_the_facts_sum_to_what_the_ledger_settled():
    bench = Bench()
    failed = ProviderError("no", kind=ErrorKind.INVALID_REQUEST)
    batch = bench.open(*some_requests(4, variants=2))
    await bench.generate(batch, ScriptedProvider({"S2/2": [failed]}))

    rows = facts_of(bench)

    assert len(rows) == 8
    assert sum(row["cost_micros"] for row in rows) == bench.ledger.day(OWNER).settled.micros


async def test_a_batch_that_spent_on_two_days_has_a_file_for_each():
    bench = Bench()
    batch = bench.open(*some_requests(3))
    failed = ProviderError("no", kind=ErrorKind.INVALID_REQUEST)
    await bench.generate(batch, ScriptedProvider({"S2/1": [failed]}))
    bench.ledger.settle(BATCH_ID)
    bench.clock.advance(timedelta(days=1))
    await bench.generate(batch, run_id="run-2")

    names = report_costs(
        bench.outcome(), budget_date=date(2026, 3, 2), run_id="run-2", services=bench.services
    )

    assert names == [
        f"costs/dt=2026-03-01/{BATCH_ID}.parquet",
        f"costs/dt=2026-03-02/{BATCH_ID}.parquet",
    ]
    scenes = [[row["scene_id"] for row in bench.facts.files[name]] for name in names]
    assert scenes == [["S1", "S3"], ["S2"]]


async def test_reporting_again_replaces_the_batchs_file():
    bench = Bench()
    await bench.generate(bench.open(*some_requests(2)))
    for _ in range(2):
        report_costs(bench.outcome(), budget_date=TODAY, run_id=RUN_ID, services=bench.services)

    [rows] = bench.facts.files.values()

    assert [row["scene_id"] for row in rows] == ["S1", "S2"]
