"""SQL and data frames over the cost facts."""

import sys
from datetime import date, timedelta
from decimal import Decimal

import pytest

from assetgen_pipeline.adapters.cost_queries import load_facts, summarize
from assetgen_pipeline.adapters.object_readers import read_each
from assetgen_pipeline.adapters.parquet_costs import ParquetCostFacts
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.cost_facts import FACT_COLUMNS
from assetgen_pipeline.domain.errors import CostFactsUnreadable, ExtraMissing
from assetgen_pipeline.domain.money import MAX_MICROS
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline_tests.cost_helpers import a_fact

TODAY = date(2026, 3, 1)
DTYPES = {
    "dt": "datetime64[ms]",
    "batch_id": "object",
    "owner": "object",
    "scene_id": "object",
    "row_number": "int32",
    "variant": "int32",
    "provider": "object",
    "model": "object",
    "status": "object",
    "attempts": "int32",
    "cost_micros": "int64",
    "cost_usd": "object",
    "cost_basis": "object",
    "price_version": "object",
    "lane": "object",
    "spend_date": "datetime64[ms]",
    "budget_date": "datetime64[ms]",
    "latency_ms": "int32",
    "created_at": "datetime64[us, UTC]",
    "run_id": "object",
    "image_uri": "object",
}


@pytest.fixture
def store():
    return InMemoryObjectStore()


def publish(store, *facts, day=TODAY, batch=1):
    batch_id = f"ada.spring.{batch:08x}"
    rows = [{**fact, "batch_id": batch_id, "dt": day, "budget_date": day} for fact in facts]
    ParquetCostFacts(store).publish(batch_id, day, rows)
    return BatchFolder(batch_id).costs(day.isoformat())


def sums(store, by="owner", *, days=30):
    return summarize(store, by, since=TODAY - timedelta(days=days), today=TODAY)


def asked(store, verb):
    return [name for called, name in store.calls if called == verb]


def test_costs_are_summed_over_files_and_days_dearest_first(store):
    publish(store, a_fact(cost_micros=1), a_fact(owner="ben", cost_micros=5))
    publish(store, a_fact(cost_micros=3, attempts=2, status="failed"), batch=2)
    publish(store, a_fact(cost_micros=2), day=TODAY - timedelta(days=1))

    assert sums(store) == [
        {"owner": "ada", "images": 3, "delivered": 2, "attempts": 4, "cost_usd": "0.000006"},
        {"owner": "ben", "images": 1, "delivered": 1, "attempts": 1, "cost_usd": "0.000005"},
    ]


def test_an_image_of_two_days_is_one_image_and_costs_what_both_days_cost(store):
    publish(store, a_fact(status="retried", cost_micros=7), day=TODAY - timedelta(days=1))
    publish(store, a_fact(cost_micros=2))

    [row] = sums(store)

    assert (row["images"], row["delivered"], row["cost_usd"]) == (1, 1, "0.000009")


def test_days_come_in_order_whatever_they_cost(store):
    for ago, cost in ((2, 1), (1, 9), (0, 5)):
        publish(store, a_fact(cost_micros=cost), day=TODAY - timedelta(days=ago))

    assert [row["dt"] for row in sums(store, "dt")] == ["2026-02-27", "2026-02-28", "2026-03-01"]


def test_a_sum_may_pass_what_one_amount_may_be_and_stays_exact(store):
    publish(store, *[a_fact(cost_micros=MAX_MICROS - 1)] * 11)

    assert sums(store)[0]["cost_usd"] == "10999999999.999989"


def test_only_files_of_the_days_asked_for_are_read_and_only_their_months_listed(store):
    names = [publish(store, a_fact(), day=TODAY - timedelta(days=ago)) for ago in (0, 3, 4, 70)]
    store.calls.clear()

    sums(store, days=3)

    assert sorted(asked(store, "read")) == sorted(names[:2])
    assert asked(store, "list") == ["costs/dt=2026-02-", "costs/dt=2026-03-"]


def test_a_day_of_tomorrow_in_a_zone_ahead_counts(store):
    publish(store, a_fact(), day=date(2026, 4, 1))

    found = summarize(store, "dt", since=date(2026, 3, 31), today=date(2026, 3, 31))

    assert [row["dt"] for row in found] == ["2026-04-01"]


def test_many_years_are_listed_at_once(store):
    publish(store, a_fact(), day=date(2001, 1, 1))
    store.calls.clear()

    assert len(summarize(store, "dt", since=date(1990, 1, 1), today=TODAY)) == 1
    assert asked(store, "list") == ["costs/dt="]


def test_other_objects_under_costs_are_left_alone(store):
    publish(store, a_fact())
    for name in ("costs/dt=2026-03-01/notes.txt", "costs/dt=2026-03-01/x/y.parquet"):
        store.write(name, b"?", content_type="text/plain")

    assert sums(store)[0]["images"] == 1


def test_a_file_that_goes_while_it_is_read_is_left_out(store):
    publish(store, a_fact())
    gone = publish(store, a_fact(), batch=2)

    class Racing(InMemoryObjectStore):
        def list(self, prefix):
            found = list(store.list(prefix))
            store.delete(gone)
            return iter(found)

        def read(self, name, *, generation=None):
            return store.read(name, generation=generation)

    assert sums(Racing())[0]["images"] == 1


def test_few_files_are_held_in_memory_at_a_time(store):
    names = [publish(store, a_fact(), batch=n) for n in range(1, 101)]
    begun = []

    def told():
        for name in names:
            begun.append(name)
            yield name

    reading = read_each(store, told())

    for done, (name, _) in enumerate(reading, start=1):
        assert name == names[done - 1]
        assert len(begun) - done <= 16
    assert done == 100


def test_nothing_was_spent_where_nothing_was_published(store):
    assert sums(store) == []


@pytest.mark.parametrize("read", [sums, lambda store: load_facts(store, since=TODAY, today=TODAY)])
def test_a_file_that_is_not_ours_is_named_as_the_problem(store, read):
    store.write("costs/dt=2026-03-01/a.parquet", b"not parquet", content_type="?")

    with pytest.raises(CostFactsUnreadable) as raised:
        read(store)

    assert "/tmp" not in str(raised.value)


def test_without_duckdb_the_error_says_how_to_get_it(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)

    with pytest.raises(ExtraMissing) as raised:
        sums(store)

    assert "assetgen-pipeline[duckdb]" in raised.value.fix


def test_a_data_frame_has_the_documented_dtypes_also_without_rows(store):
    publish(store, a_fact(), a_fact(created_at=None))

    full = load_facts(store, since=TODAY, today=TODAY)
    empty = load_facts(store, since=TODAY + timedelta(days=1), today=TODAY)

    assert list(full.columns) == [column.name for column in FACT_COLUMNS]
    assert {name: str(kind) for name, kind in full.dtypes.items()} == DTYPES
    assert {name: str(kind) for name, kind in empty.dtypes.items()} == DTYPES
    assert (len(full), len(empty)) == (2, 0)


def test_a_data_frames_money_is_exact(store):
    publish(store, *(a_fact(cost_micros=n) for n in (1, 10**12, 3)))
    publish(store, a_fact(cost_micros=5), day=TODAY - timedelta(days=1))

    facts = load_facts(store, since=TODAY - timedelta(days=1), today=TODAY)

    assert facts["cost_usd"].sum() == Decimal("1000000.000009")
    assert facts["cost_micros"].sum() == 10**12 + 9
    assert facts.groupby("dt")["cost_micros"].sum().tolist() == [5, 10**12 + 4]
