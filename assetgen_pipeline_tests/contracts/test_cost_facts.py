"""Cost facts, in the words of `ports.CostFacts`: the fake and the Parquet files alike."""

import io
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow.parquet as pq
import pytest

from assetgen_pipeline.adapters.parquet_costs import ParquetCostFacts
from assetgen_pipeline.domain.bucket_layout import BatchFolder, day_costs_name
from assetgen_pipeline.domain.cost_facts import FACT_COLUMNS
from assetgen_pipeline.domain.day_spend import DAY_COLUMNS, DaySpend, GroupSpend
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.testing.costs import InMemoryCostFacts
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline_tests.builders import BATCH_ID
from assetgen_pipeline_tests.cost_helpers import a_fact

DAY, NEXT = date(2026, 3, 1), date(2026, 3, 2)
NAME = BatchFolder(BATCH_ID).costs("2026-03-01")


def a_day(day=DAY, *groups, entries=3):
    return DaySpend(
        budget_date=day,
        groups=groups,
        batches={},
        open_batches=frozenset(),
        is_over=True,
        entries=entries,
    )


@pytest.fixture
def store():
    return InMemoryObjectStore()


@pytest.fixture(params=["memory", "parquet"])
def facts(request, store):
    return InMemoryCostFacts() if request.param == "memory" else ParquetCostFacts(store)


def test_facts_that_are_published_are_summed_exactly(facts):
    rows = [a_fact(cost_micros=1), a_fact(cost_micros=2_000), a_fact(cost_micros=0)]

    assert facts.publish(BATCH_ID, DAY, rows)

    assert facts.batch_cost(BATCH_ID, DAY) == Money(2_001)
    assert facts.batch_cost(BATCH_ID, NEXT) is None
    assert facts.batch_costs(DAY) == {BATCH_ID: Money(2_001)}
    assert facts.batch_costs(NEXT) == {}


def test_the_same_facts_again_write_nothing_and_others_replace_them(facts):
    facts.publish(BATCH_ID, DAY, [a_fact(), a_fact(scene_id="S2")])

    assert not facts.publish(BATCH_ID, DAY, [a_fact(), a_fact(scene_id="S2")])
    assert facts.publish(BATCH_ID, DAY, [a_fact(cost_micros=5)])
    assert facts.batch_cost(BATCH_ID, DAY) == Money(5)


def test_no_facts_mean_no_file(facts):
    assert not facts.publish(BATCH_ID, DAY, [])
    facts.publish(BATCH_ID, DAY, [a_fact()])

    assert facts.publish(BATCH_ID, DAY, [])

    assert facts.batch_cost(BATCH_ID, DAY) is None
    assert facts.batch_costs(DAY) == {}


def test_a_day_is_published_once_and_again_when_it_moved(facts):
    group = GroupSpend(owner="ann", provider="p", model="m", settled=Money(7), images=1)
    assert facts.day_cost(DAY) is None

    assert facts.publish_day(a_day(DAY, group))
    assert not facts.publish_day(a_day(DAY, group))
    assert facts.publish_day(a_day(DAY, group, group, entries=4))

    assert facts.day_cost(DAY) == Money(14)


def test_a_day_without_anything_sums_to_nothing(facts):
    assert facts.publish_day(a_day())

    assert facts.day_cost(DAY) == ZERO


@pytest.mark.parametrize("kept", [b"", b"not parquet", b"PAR1 but not PAR1"])
def test_a_file_that_cannot_be_read_counts_as_absent_and_is_written_anew(store, kept):
    store.write(NAME, kept, content_type="application/octet-stream")
    facts = ParquetCostFacts(store)

    assert facts.batch_cost(BATCH_ID, DAY) is None
    assert facts.batch_costs(DAY) == {}
    assert facts.publish(BATCH_ID, DAY, [a_fact()])
    assert facts.batch_cost(BATCH_ID, DAY) == Money(2_000)


def test_the_files_hold_the_types_and_the_dictionary_of_the_contract(store):
    facts = ParquetCostFacts(store)
    facts.publish(BATCH_ID, DAY, [a_fact(created_at=datetime(2026, 3, 1, 12, tzinfo=UTC))])
    facts.publish_day(a_day(DAY, GroupSpend(owner="ann", settled=Money(7))))

    for name, columns in ((NAME, FACT_COLUMNS), (day_costs_name("2026-03-01"), DAY_COLUMNS)):
        schema = pq.read_schema(io.BytesIO(store.read(name)))
        found = [
            (field.name, str(field.type), field.metadata[b"description"].decode())
            for field in schema
        ]
        arrow = {"date": "date32[day]", "boolean": "bool", "timestamp": "timestamp[us, tz=UTC]"}
        arrow["decimal(18,6)"] = "decimal128(18, 6)"
        assert found == [
            (column.name, arrow.get(column.type, column.type), column.description)
            for column in columns
            if column.name != "dt"
        ]


def test_dollars_and_micros_in_a_file_are_the_same_amount(store):
    ParquetCostFacts(store).publish(BATCH_ID, DAY, [a_fact(cost_micros=1_234_567)])

    [row] = pq.read_table(io.BytesIO(store.read(NAME))).to_pylist()

    assert row["cost_usd"] == Decimal("1.234567")
