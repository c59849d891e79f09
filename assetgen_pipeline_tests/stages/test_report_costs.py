"""Cost facts of a batch follow the ledger, to the micro."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.cost_facts import FACT_COLUMNS
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.testing.costs import InMemoryCostFacts
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, NOW, OWNER, RUN_ID
from assetgen_pipeline_tests.reported_costs import (
    FIRST,
    LOST,
    REFUSED,
    SECOND,
    facts_of,
    file_of,
    on_two_days,
    report,
    told,
)
from assetgen_pipeline_tests.stage_bench import CATALOGUE, MODEL, PROVIDER, Bench, some_requests


class Forgetful(InMemoryCostFacts):
    """A seeded bug: what is written is not kept."""

    def publish(self, batch_id, day, facts):
        return True


class Corrected(InMemoryCostFacts):
    """Somebody corrects the ledger while facts are being written."""

    correct = staticmethod(lambda: None)

    def publish(self, batch_id, day, facts):
        changed = super().publish(batch_id, day, facts)
        self.correct()
        return changed


async def test_a_paid_image_has_every_column_of_the_contract():
    bench = Bench()
    await bench.generate(bench.open(*some_requests(1)))

    report(bench)

    name = bench.attempts()[0].image.object_name
    assert facts_of(bench) == [
        {
            "dt": FIRST,
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
            "cost_usd": Decimal("0.002000"),
            "cost_basis": "flat",
            "price_version": CATALOGUE.version,
            "lane": "stable",
            "spend_date": FIRST,
            "budget_date": FIRST,
            "latency_ms": 0,
            "created_at": NOW,
            "run_id": RUN_ID,
            "image_uri": f"gs://{BUCKET}/{name}",
        }
    ]
    assert list(facts_of(bench)[0]) == [column.name for column in FACT_COLUMNS]


async def test_an_image_never_attempted_costs_nothing_on_the_day_its_batch_was_received():
    bench = Bench()
    bench.open(*some_requests(1))
    bench.clock.advance(timedelta(days=3))

    assert report(bench) == [file_of(FIRST)]

    [fact] = facts_of(bench)
    assert (fact["dt"], fact["budget_date"], fact["spend_date"]) == (FIRST,) * 3
    assert (fact["status"], fact["cost_micros"], fact["cost_basis"]) == ("not_attempted", 0, "none")
    assert (fact["run_id"], fact["created_at"], fact["image_uri"]) == ("", None, "")


async def test_cost_and_attempts_are_summed_over_all_attempts_of_an_image():
    bench = Bench()
    await bench.generate(bench.open(*some_requests(1)), ScriptedProvider(default=[LOST, LOST]))

    report(bench)

    assert told(bench, FIRST, "attempts", "cost_micros", "cost_basis", "status") == [
        (2, 4_000, "assumed", "failed")
    ]


async def test_the_facts_sum_to_what_the_ledger_settled():
    bench = Bench()
    batch = bench.open(*some_requests(4, variants=2))
    await bench.generate(batch, ScriptedProvider({"S2/2": [REFUSED]}))

    report(bench)

    assert len(facts_of(bench)) == 8
    assert bench.facts.batch_cost(BATCH_ID, FIRST) == bench.ledger.day(OWNER).settled


async def test_a_file_that_was_never_read_has_no_facts():
    bench = Bench()

    assert report(bench) == []
    assert bench.facts.files == {}


async def test_a_correction_after_a_purge_still_reaches_the_facts():
    bench = Bench()
    batch = bench.open(*some_requests(2, variants=2))
    await bench.generate(batch, ScriptedProvider({"S2/2": [LOST, REFUSED]}))
    bench.ledger.settle(BATCH_ID)
    report(bench)
    before = facts_of(bench)
    bench.store.delete(BatchFolder(BATCH_ID).artifact("batch_requests"))
    bench.store.delete(BatchFolder(BATCH_ID).artifact("reference_images"))
    assert report(bench) == []
    unknown = next(a for a in bench.attempts() if a.state is AttemptState.ASSUMED)

    bench.ledger.reconcile(unknown.attempt_id, Money(7))

    assert report(bench) == [file_of(FIRST)]
    assert bench.facts.batch_cost(BATCH_ID, FIRST) == bench.ledger.day(OWNER).settled
    assert facts_of(bench)[:3] == before[:3]
    assert told(bench, FIRST, "cost_micros")[3] == (7,)


async def test_reporting_again_changes_nothing():
    bench = Bench()
    await bench.generate(bench.open(*some_requests(2)))
    report(bench)
    written = list(bench.facts.written)

    assert report(bench) == []
    assert bench.facts.written == written == [file_of(FIRST)]


async def test_images_attempted_on_a_later_day_leave_the_first_days_file():
    bench = Bench()
    batch = bench.open(*some_requests(2))
    report(bench)
    assert told(bench, FIRST, "status") == [("not_attempted",)] * 2
    bench.clock.advance(timedelta(days=1))
    await bench.generate(batch, run_id="run-2")

    assert report(bench) == [file_of(FIRST), file_of(SECOND)]

    assert list(bench.facts.files) == [file_of(SECOND)]
    assert told(bench, SECOND, "scene_id", "status") == [("S1", "delivered"), ("S2", "delivered")]


async def test_an_image_tried_on_two_days_is_counted_once_and_paid_on_each():
    bench = Bench()
    batch = await on_two_days(bench, ScriptedProvider({"S2/1": [LOST, REFUSED]}))
    await bench.generate(batch, run_id="run-2")
    bench.ledger.settle(BATCH_ID)

    report(bench)

    columns = ("scene_id", "status", "attempts", "cost_micros", "cost_basis")
    assert told(bench, FIRST, *columns) == [
        ("S1", "delivered", 1, 2_000, "flat"),
        ("S2", "retried", 2, 2_000, "assumed"),
        ("S3", "delivered", 1, 2_000, "flat"),
    ]
    assert told(bench, SECOND, *columns) == [("S2", "delivered", 1, 2_000, "flat")]
    for day in (FIRST, SECOND):
        assert bench.facts.batch_cost(BATCH_ID, day) == bench.ledger.day_spend(day).settled


async def test_the_row_of_a_day_without_the_image_names_no_image():
    bench = Bench()
    batch = await on_two_days(bench, ScriptedProvider({"S1/1": [REFUSED]}), requests=1)
    await bench.generate(batch, run_id="run-2")

    report(bench)

    assert told(bench, FIRST, "status", "image_uri", "run_id") == [("retried", "", RUN_ID)]
    [(status, uri, run_id)] = told(bench, SECOND, "status", "image_uri", "run_id")
    assert (status, run_id) == ("delivered", "run-2")
    assert uri.startswith(f"gs://{BUCKET}/images/")


async def test_a_late_correction_rewrites_exactly_the_file_of_its_day():
    bench = Bench()
    batch = await on_two_days(bench, ScriptedProvider({"S2/1": [LOST, LOST]}), requests=4)
    await bench.generate(batch, ScriptedProvider(default=[REFUSED]), run_id="run-2")
    bench.ledger.settle(BATCH_ID)
    report(bench)
    bench.facts.written.clear()
    unknown = next(a for a in bench.attempts() if a.state is AttemptState.ASSUMED)

    bench.ledger.capture(unknown, cost=Money(1_500), cost_basis="usage", image=None)

    assert report(bench) == [file_of(FIRST)]
    assert bench.facts.written == [file_of(FIRST)]
    assert bench.facts.batch_cost(BATCH_ID, FIRST) == bench.ledger.day_spend(FIRST).settled


async def test_a_correction_made_while_facts_are_written_is_not_lost():
    facts = Corrected()
    bench = Bench(facts=facts)
    await bench.generate(bench.open(*some_requests(1)), ScriptedProvider(default=[LOST, REFUSED]))
    unknown = next(a for a in bench.attempts() if a.state is AttemptState.ASSUMED)
    facts.correct = lambda: bench.ledger.capture(
        unknown, cost=Money(1), cost_basis="usage", image=None
    )

    report(bench)

    assert facts.batch_cost(BATCH_ID, FIRST) == Money(1)


async def test_facts_that_do_not_stay_written_are_an_error():
    bench = Bench(facts=Forgetful())
    bench.open(*some_requests(1))

    with pytest.raises(StorageUnavailable, match="do not keep"):
        report(bench)


async def test_the_day_of_an_image_never_attempted_is_the_local_one():
    bench = Bench(time_zone="Asia/Tokyo")
    bench.clock.set(datetime(2026, 3, 1, 23, tzinfo=UTC))
    bench.open(*some_requests(1), received_at=bench.clock.now().isoformat())

    assert report(bench) == [file_of(SECOND)]
