"""Costs in the catalogue: plots, dictionaries, the checks that hold three sources together."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from assetgen_pipeline.adapters.parquet_costs import ParquetCostFacts
from assetgen_pipeline.defs.closing import sweep
from assetgen_pipeline.defs.recorded_costs import recorded
from assetgen_pipeline.defs.schedules import days_due
from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline.domain.bucket_layout import BatchFolder, day_costs_name
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.generation import Billing, ErrorKind, ProviderError
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.report_costs import report_costs
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, NOW, a_csv
from assetgen_pipeline_tests.fake_deployment import FakeDeployment, add_run

TODAY, DAY = date(2026, 3, 1), "2026-03-01"
UTC_ZONE = ZoneInfo("UTC")
ROWS = a_csv(["S1", "a kitchen"], ["S2", "a harbour"], ["S3", "a shop"])
LOST = ProviderError("lost", kind=ErrorKind.UNKNOWN_OUTCOME, billing=Billing.MAYBE)
DICTIONARIES = {"batch_costs": 21, "cost_daily": 18}


class OneMicroMore(ParquetCostFacts):
    """A seeded bug: the first fact of every file costs a micro more."""

    def publish(self, batch_id, day, facts):
        first, *rest = facts
        return super().publish(
            batch_id, day, [{**first, "cost_micros": first["cost_micros"] + 1}, *rest]
        )


class OneMicroLess(ParquetCostFacts):
    """A seeded bug: the daily sums lack a micro."""

    def publish_day(self, spend):
        group, *rest = spend.groups
        short = group.model_copy(update={"settled": Money(group.settled.micros - 1)})
        return super().publish_day(spend.model_copy(update={"groups": (short, *rest)}))


@pytest.fixture
def spent(instance):
    """A deployment after one batch, one image of which is assumed."""
    deployment = FakeDeployment(instance, provider=ScriptedProvider({"S2/1": [LOST, LOST]}))
    deployment.upload(ROWS)
    assert deployment.run().success
    return deployment


def newest(deployment, asset, partition):
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[partition])
    [record] = deployment.instance.fetch_materializations(wanted, limit=1).records
    return {k: v.value for k, v in record.asset_materialization.metadata.items()}


def agreement(result, asset):
    [check] = [
        check
        for check in result.get_asset_check_evaluations()
        if (check.asset_key.to_user_string(), check.check_name) == (asset, "costs_agree")
    ]
    return check.passed, check.metadata["found"].value


def due(deployment, zone=UTC_ZONE):
    return days_due(deployment.instance, zone, services=deployment.services)


@pytest.mark.parametrize(("asset", "partition"), [("batch_costs", BATCH_ID), ("cost_daily", DAY)])
def test_what_costs_plot_is_numbers_only(spent, asset, partition):
    spent.publish_costs(DAY)

    values = newest(spent, asset, partition)

    assert {type(value) for value in values.values()} <= {int, float}
    assert values["dagster/partition_row_count"] > 0


@pytest.mark.parametrize("asset", DICTIONARIES)
def test_the_catalogue_is_the_data_dictionary(deployment, asset):
    node = deployment.definitions.resolve_asset_graph().get(dg.AssetKey(asset))

    schema = node.metadata["dagster/column_schema"]
    assert len(schema.columns) == DICTIONARIES[asset]
    assert all(column.description and column.type for column in schema.columns)
    folder = "costs" if asset == "batch_costs" else "cost_daily"
    assert node.metadata["dagster/uri"] == f"gs://assetgen-local/{folder}/"


def test_a_day_is_published_in_a_file_and_in_numbers(spent):
    result = spent.publish_costs(DAY)

    assert result.success
    numbers = newest(spent, "cost_daily", DAY)
    settled = spent.ledger.day("studio").settled
    assert (numbers["cost_micros"], numbers["assumed_usd"]) == (settled.micros, 0.004)
    assert numbers["cost_usd"] == pytest.approx(settled.micros / 1_000_000)
    assert (numbers["images"], numbers["images_delivered"], numbers["attempts"]) == (3, 2, 4)
    assert spent.services.facts.day_cost(TODAY) == settled
    assert agreement(result, "cost_daily") == (True, "")


def test_a_batch_whose_facts_are_a_micro_off_fails_its_run_and_keeps_its_results(instance):
    deployment = FakeDeployment(instance)
    deployment.services = replace(deployment.services, facts=OneMicroMore(deployment.store))
    deployment.upload(ROWS)

    result = deployment.run()

    assert not result.success
    passed, found = agreement(result, "batch_costs")
    assert not passed
    assert found == "2026-03-01: the ledger says $0.006, Parquet $0.006001"
    assert deployment.status().state is BatchState.COMPLETED


def test_a_day_whose_sums_are_a_micro_off_fails_its_run(spent):
    spent.services = replace(spent.services, facts=OneMicroLess(spent.store))

    result = spent.publish_costs(DAY)

    assert not result.success
    assert agreement(result, "cost_daily") == (
        False,
        "2026-03-01: the ledger says $0.008, the daily file $0.007999",
    )


def test_a_lost_file_of_facts_is_written_again_with_the_day(spent):
    name = BatchFolder(BATCH_ID).costs(DAY)
    spent.store.delete(name)

    assert spent.publish_costs(DAY).success

    assert spent.has(name)


def test_a_late_correction_reaches_file_day_and_metadata(spent):
    spent.publish_costs(DAY)
    before = {
        found.name: found.generation for found in spent.store.list("cost") if DAY in found.name
    }
    unknown = [a for a in spent.ledger.attempts(BATCH_ID) if a.state is AttemptState.ASSUMED]
    spent.ledger.reconcile(unknown[0].attempt_id, Money(1))
    assert report_costs(BATCH_ID, services=spent.services) == [BatchFolder(BATCH_ID).costs(DAY)]
    assert due(spent) == [date(2026, 2, 28), TODAY]

    assert spent.publish_costs(DAY).success

    assert newest(spent, "batch_costs", BATCH_ID)["cost_micros"] == 6_001
    assert newest(spent, "cost_daily", DAY)["cost_micros"] == 6_001
    after = {found.name: found.generation for found in spent.store.list("cost")}
    assert {name for name in before if before[name] != after[name]} == {
        BatchFolder(BATCH_ID).costs(DAY),
        day_costs_name(DAY),
    }


def test_a_batch_of_two_days_is_not_corrected_for_what_it_spent_on_one(spent):
    spent.clock.advance(timedelta(days=1))
    spent.run()

    spent.publish_costs(DAY)
    spent.publish_costs("2026-03-02")

    filters = dg.AssetRecordsFilter(dg.AssetKey("batch_costs"))
    records = spent.instance.fetch_materializations(filters, limit=10).records
    assert len(records) == 2
    spent_on = [newest(spent, "cost_daily", day)["cost_micros"] for day in (DAY, "2026-03-02")]
    assert min(spent_on) > 0
    assert newest(spent, "batch_costs", BATCH_ID)["cost_micros"] == sum(spent_on)


def test_a_run_over_a_day_with_a_running_batch_agrees(spent):
    spent.ledger.reserve(
        owner="studio", batch_id="studio.x.0000000a", run_id="r", amount=Money(5), price_version="p"
    )

    result = spent.publish_costs(DAY)

    assert result.success
    assert newest(spent, "cost_daily", DAY)["open_batches"] == 1


def test_yesterday_and_every_day_that_moved_are_due(spent):
    assert due(spent) == [date(2026, 2, 28), TODAY]

    spent.publish_costs("2026-02-28")
    spent.publish_costs(DAY)

    assert due(spent) == []


def test_a_day_published_while_it_lasted_is_due_once_it_is_over(spent):
    spent.publish_costs("2026-02-28")
    spent.publish_costs(DAY)
    # The events above carry the machine's time; let the days end after it.
    spent.clock.set(datetime.now(UTC) + timedelta(days=2))
    yesterday = spent.ledger.budget_date(spent.clock.now()) - timedelta(days=1)
    assert due(spent) == [yesterday]

    spent.publish_costs(DAY)
    spent.clock.set(NOW + timedelta(days=1))
    assert due(spent) == []


def test_the_schedule_asks_for_a_run_per_day_and_then_rests(tmp_path):
    # A tick sees no ephemeral instance.
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        ask_and_rest(FakeDeployment(instance))


def ask_and_rest(spent):
    spent.upload(ROWS)
    assert spent.run().success
    repository = spent.definitions.get_repository_def()
    schedule = repository.get_schedule_def("publish_costs_schedule")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING

    def tick():
        context = dg.build_schedule_context(
            instance=spent.instance,
            scheduled_execution_time=spent.clock.now(),
            repository_def=repository,
            resources={"services": spent.services},
        )
        return schedule.evaluate_tick(context)

    assert [request.partition_key for request in tick().run_requests] == ["2026-02-28", DAY]
    for request in tick().run_requests:
        spent.publish_costs(request.partition_key)
    assert tick().run_requests == []
    assert "published" in tick().skip_message


def test_a_partition_never_materialized_has_no_numbers(instance):
    assert recorded(instance, "cost_daily", DAY) is None


def test_the_death_of_a_publication_ends_it_and_closes_no_batch(spent):
    run = add_run(
        spent.instance,
        status=dg.DagsterRunStatus.STARTED,
        batch_id=DAY,
        assetgen__worker=f"{worker_identity()}0",
    )

    assert sweep(spent.instance, services=spent.services) == [run.run_id]

    assert spent.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE
    assert spent.status().state is BatchState.COMPLETED_WITH_FAILURES
