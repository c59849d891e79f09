"""Metrics: what Prometheus' own parser reads back, and a bound on their number."""

import math
from datetime import date, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from assetgen_pipeline.domain.budget import BudgetDay, Hold, InvariantCheck
from assetgen_pipeline.domain.health import DaemonHealth, InstanceHealth, PoolHealth, TickHealth
from assetgen_pipeline.domain.metric_families import FAMILIES
from assetgen_pipeline.domain.metrics import (
    MOST_OWNERS,
    OTHERS,
    PROJECT,
    LedgerFigures,
    batches_samples,
    books_samples,
    days_samples,
    exposition,
    figures_samples,
    instance_samples,
    sample,
)
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline_tests.builders import NOW


def read_back(samples):
    """Every number by name and labels, as Prometheus reads the text."""
    return {
        (found.name, tuple(found.labels.values())): found.value
        for family in text_string_to_metric_families(exposition(samples))
        for found in family.samples
    }


def figures(**changes):
    return LedgerFigures(
        **{
            "rows": {"delivered": 2},
            "images": {"delivered": 3, "failed": 1},
            "attempts": {("local", "delivered"): 3, ("local", "provider-unavailable"): 2},
            "costs": {("ada", "local"): 6_000},
            "inflight": {("ada", "gemini"): 39_000},
            **changes,
        }
    )


def a_day(owner="ada", *, held=0, settled=0, limit=10_000_000):
    return BudgetDay(
        owner=owner,
        budget_date=date(2026, 3, 1),
        limit=Money(limit),
        held=Money(held),
        settled=Money(settled),
        assumed=ZERO,
        overrun=ZERO,
        resets_at=NOW,
    )


def test_the_sums_of_the_books_are_read_back_with_their_labels():
    found = read_back(figures_samples(figures()))

    assert found["assetgen_images", ("failed",)] == 1
    assert found["assetgen_images", ("blocked",)] == 0
    assert found["assetgen_rows", ("delivered",)] == 2
    assert found["assetgen_attempts_total", ("local", "provider-unavailable")] == 2
    assert found["assetgen_cost_usd_total", ("ada", "local")] == 0.006
    assert found["assetgen_inflight_usd", ("ada", "gemini")] == 0.039


def test_what_is_not_of_a_closed_set_is_summed_as_other():
    found = read_back(
        figures_samples(
            figures(
                attempts={("new", "strange code"): 1, ("newer", "stranger"): 2},
                costs={("ada", "new"): 1_000_000, ("ada", "newer"): 1_000_000},
            )
        )
    )

    assert found["assetgen_attempts_total", (OTHERS, OTHERS)] == 3
    assert found["assetgen_cost_usd_total", ("ada", OTHERS)] == 2.0


def test_ten_thousand_owners_make_a_bounded_number_of_series_and_lose_no_money():
    costs = {(f"owner{n:05}", "local"): 1_000_000 * (n + 1) for n in range(10_000)}
    days = [a_day(f"owner{n:05}", held=1_000_000) for n in range(10_000)]

    spent = figures_samples(figures(costs=costs))
    today = days_samples(days, None)

    owners = {one.labels["owner"] for one in spent if one.name == "assetgen_cost_usd_total"}
    assert len(owners) == MOST_OWNERS + 1
    assert {"owner09999", OTHERS} <= owners
    assert sum(
        one.value for one in spent if one.name == "assetgen_cost_usd_total"
    ) == pytest.approx(sum(costs.values()) / 1_000_000)
    assert len(today) == 6 * (MOST_OWNERS + 1)
    assert sum(one.value for one in today if one.name == "assetgen_held_usd") == 10_000


def test_todays_budgets_have_owner_and_project():
    days = [a_day(held=1_500_000, settled=2_000_000)]
    found = read_back(days_samples(days, a_day("", held=1_500_000, limit=100_000_000)))

    assert found["assetgen_held_usd", ("ada",)] == 1.5
    assert found["assetgen_settled_usd", ("ada",)] == 2.0
    assert found["assetgen_headroom_usd", ("ada",)] == 6.5
    assert found["assetgen_limit_usd", (PROJECT,)] == 100.0


def test_holds_and_invariants_are_counted():
    hold = Hold(
        hold_id="h",
        batch_id="b",
        owner="ada",
        budget_date=date(2026, 3, 1),
        amount=ZERO,
        fence=1,
        opened_at=NOW - timedelta(hours=1),
    )
    checks = [
        InvariantCheck(name="I1", sentence="", violations=()),
        InvariantCheck(name="I2", sentence="", violations=("x", "y")),
    ]

    found = read_back(
        books_samples([hold, hold.model_copy(update={"opened_at": None})], checks, 7, now=NOW)
    )

    assert found["assetgen_open_holds", ()] == 2
    assert found["assetgen_open_hold_oldest_seconds", ()] == 3600
    assert found["assetgen_ledger_violations", ("I2",)] == 2
    assert found["assetgen_ledger_violations", ("I1",)] == 0
    assert found["assetgen_assumed_attempts", ()] == 7


def test_every_state_of_a_batch_has_a_number():
    found = read_back(batches_samples([BatchState.FAILED, BatchState.FAILED]))

    assert found["assetgen_batches", ("failed",)] == 2
    assert found["assetgen_batches", ("running",)] == 0
    assert len(found) == len(BatchState)


def test_an_instance_is_told_in_numbers_and_what_never_was_is_infinite():
    health = InstanceHealth(
        daemons=(
            DaemonHealth(name="SENSOR", age_s=3.0),
            DaemonHealth(name="SCHEDULER", age_s=None),
        ),
        ticks=(TickHealth(name="inbox_sensor", kind="sensor", on=True, every_s=5, age_s=None),),
        pools=(PoolHealth(name="generation", limit=2, used=1, leaked=1),),
        runs={"queued": 4},
        queue_oldest_s=12.5,
        dead_runs=("r",),
    )

    found = read_back(instance_samples(health))

    assert found["assetgen_daemon_heartbeat_age_seconds", ("SENSOR",)] == 3.0
    assert math.isinf(found["assetgen_daemon_heartbeat_age_seconds", ("SCHEDULER",)])
    assert found["assetgen_sensor_dead", ("inbox_sensor",)] == 1
    assert found["assetgen_pool_slots_leaked", ("generation",)] == 1
    assert found["assetgen_runs", ("queued",)] == 4
    assert found["assetgen_queue_oldest_seconds", ()] == 12.5
    assert found["assetgen_dead_runs", ()] == 1


def test_a_label_survives_quotes_backslashes_and_line_breaks():
    hostile = 'a"b\\c\nd'

    found = read_back([sample("build_info", 1, hostile)])

    assert found == {("assetgen_build_info", (hostile,)): 1}


def test_every_family_is_read_back_with_its_kind():
    samples = [sample(name.removeprefix("assetgen_"), 1, *f.labels) for name, f in FAMILIES.items()]

    kinds = {
        family.samples[0].name: family.type
        for family in text_string_to_metric_families(exposition(samples))
    }

    assert kinds == {name: family.kind for name, family in FAMILIES.items()}


def test_names_have_their_units_and_counters_end_in_total():
    for name, family in FAMILIES.items():
        # The books can be corrected downwards, whatever the name of what they sum up to says.
        corrected = name == "assetgen_cost_usd_total"
        assert (family.kind == "counter") == (name.endswith("_total") and not corrected), name
        if "_age_" in name or "oldest" in name or "duration" in name:
            assert name.endswith("_seconds"), name


def test_a_sample_with_labels_of_another_number_is_a_bug():
    with pytest.raises(ValueError, match="zip"):
        sample("build_info", 1)
