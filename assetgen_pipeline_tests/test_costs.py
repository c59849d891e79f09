"""Cost facts in a notebook: one line, on a real bucket."""

from datetime import UTC, date, datetime, time, timedelta

import pandas as pd
import pytest

from assetgen_pipeline import costs
from assetgen_pipeline.adapters.parquet_costs import ParquetCostFacts
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.clock import open_clock
from assetgen_pipeline.wiring.look_back import look_back
from assetgen_pipeline_tests.builders import BATCH_ID
from assetgen_pipeline_tests.cost_helpers import a_fact


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def first_day():
    """Midnight may come between two tests."""
    return open_clock().now().date()


@pytest.fixture
def today(home, first_day, monkeypatch):
    """Facts of today and of 40 days ago, in the local bucket."""
    monkeypatch.setenv("ASSETGEN_HOME", str(home))
    with open_object_store(load_settings()) as store:
        for day in (first_day, first_day - timedelta(days=40)):
            ParquetCostFacts(store).publish(BATCH_ID, day, [a_fact(day=day)])
    return first_day


@pytest.mark.parametrize("bucket", ["", "assetgen-local", "gs://assetgen-local/"])
def test_facts_load_in_one_line(today, bucket):
    facts = costs.load(bucket, since="30d")

    assert facts["dt"].dt.date.tolist() == [today]
    assert facts["cost_micros"].tolist() == [2_000]


def test_since_is_a_span_or_a_day(today):
    first = today - timedelta(days=40)

    for since in ("41d", timedelta(days=41), first, first.isoformat()):
        assert len(costs.load(since=since)) == 2


def test_since_may_be_an_instant_of_the_first_day(today):
    midnight = datetime.combine(today - timedelta(days=40), time(), UTC)

    for since in (midnight, pd.Timestamp(midnight), pd.Timestamp(midnight.replace(tzinfo=None))):
        assert len(costs.load(since=since)) == 2
        assert len(costs.load(since=since + timedelta(days=1))) == 1


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", "9999999999d", ""])
def test_since_anything_else_is_an_error_that_says_what_is_taken(since):
    with pytest.raises(ValueError, match=r"30d.*2026-11-01"):
        costs.load(since=since)


def test_a_span_longer_than_all_of_time_looks_at_everything(today):
    assert len(costs.load(since="999999999d")) == 2


def test_a_look_back_is_in_local_days(monkeypatch):
    monkeypatch.setenv("ASSETGEN_BUDGET_TIME_ZONE", "Pacific/Kiritimati")
    now = open_clock().now()

    first, today = look_back("24h", load_settings())

    assert today >= now.date()
    assert (today - first) == timedelta(days=1)
    assert look_back(datetime(2026, 11, 1, 23, tzinfo=UTC), load_settings())[0] == date(2026, 11, 2)
