"""Days on the real books: midnight, clocks that step or differ, zones where days are odd."""

from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from assetgen_pipeline.adapters.sql_ledger import open_sql_ledger
from assetgen_pipeline.domain.errors import BudgetRefused
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline_tests.ledger_helpers import broken, capture, figures, request, reserve
from assetgen_pipeline_tests.postgres_cluster import require_cluster


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    return require_cluster().create_ledger()


@pytest.fixture
def open_at(url):
    """Open the books with a clock that stands at an instant, as a host of its own would."""
    opened = []

    def make(instant, *, zone="UTC", limit=1000):
        clock = ManualClock(datetime.fromisoformat(instant).replace(tzinfo=UTC))
        ledger = open_sql_ledger(
            url, clock=clock, time_zone=ZoneInfo(zone), default_limit=Money(limit)
        )
        opened.append(ledger)
        return ledger, clock

    yield make
    for ledger in opened:
        assert broken(ledger) == []
        ledger.close()


def test_two_hosts_on_either_side_of_midnight_spend_two_days(open_at):
    before, _ = open_at("2026-01-05T23:59:59.999999")
    after, _ = open_at("2026-01-06T00:00:00")

    today, tomorrow = reserve(before, 1000, batch="b1"), reserve(after, 1000, batch="b2")

    assert (today.budget_date, tomorrow.budget_date) == (date(2026, 1, 5), date(2026, 1, 6))
    for ledger in (before, after):
        with pytest.raises(BudgetRefused):
            reserve(ledger, 1, batch="b3")


@pytest.mark.parametrize(
    ("zone", "instants", "dates"),
    [
        # Midnight does not exist: the day begins at 01:00.
        ("Africa/Cairo", ["2024-04-25T21:59:59", "2024-04-25T22:00:00"], ["04-25", "04-26"]),
        ("America/Santiago", ["2024-09-08T03:59:59", "2024-09-08T04:00:00"], ["09-07", "09-08"]),
        ("America/Havana", ["2024-03-10T04:59:59", "2024-03-10T05:00:00"], ["03-09", "03-10"]),
        ("Asia/Beirut", ["2024-03-30T21:59:59", "2024-03-30T22:00:00"], ["03-30", "03-31"]),
        # Midnight comes twice.
        ("America/Havana", ["2024-11-03T04:30:00", "2024-11-03T05:30:00"], ["11-03", "11-03"]),
        # Days of 24.5 hours, and of 23.5.
        ("Australia/Lord_Howe", ["2024-04-07T13:29:59", "2024-04-07T13:30:00"], ["04-07", "04-08"]),
        ("Australia/Lord_Howe", ["2024-10-06T12:59:59", "2024-10-06T13:00:00"], ["10-06", "10-07"]),
        # A date that comes back, and one that never was.
        ("America/St_Johns", ["2010-11-07T02:30:30", "2010-11-07T03:00:00"], ["11-07", "11-06"]),
        ("Pacific/Apia", ["2011-12-30T09:59:59", "2011-12-30T10:00:00"], ["12-29", "12-31"]),
    ],
)
def test_odd_days_have_one_budget_each(open_at, zone, instants, dates):
    ledger, clock = open_at(instants[0], zone=zone)
    first = reserve(ledger, 600, batch="b1")
    clock.set(datetime.fromisoformat(instants[1]).replace(tzinfo=UTC))

    if dates[0] == dates[1]:
        with pytest.raises(BudgetRefused):
            reserve(ledger, 600, batch="b2")
        second = reserve(ledger, 400, batch="b2")
    else:
        second = reserve(ledger, 1000, batch="b2")

    assert [f"{hold.budget_date:%m-%d}" for hold in (first, second)] == dates


def test_a_date_that_comes_back_has_what_it_had_left(open_at):
    ledger, clock = open_at("2010-11-07T02:29:59", zone="America/St_Johns")
    reserve(ledger, 600, batch="b1")
    clock.set(datetime(2010, 11, 7, 2, 30, 30, tzinfo=UTC))
    reserve(ledger, 1000, batch="b2")
    clock.set(datetime(2010, 11, 7, 3, 0, tzinfo=UTC))

    with pytest.raises(BudgetRefused) as refused:
        reserve(ledger, 401, batch="b3")

    assert refused.value.headroom == Money(400)


def test_a_clock_that_went_back_gives_no_money_twice_and_raises_the_alarm(open_at, caplog):
    ledger, clock = open_at("2026-01-06T01:00:00")
    reserve(ledger, 1000, batch="b1")
    clock.set(clock.now() - timedelta(hours=2))
    reserve(ledger, 700, batch="b2")
    assert "the clock went back: it is 7200 s behind" in caplog.text

    clock.set(clock.now() + timedelta(hours=2))
    with pytest.raises(BudgetRefused):
        reserve(ledger, 1, batch="b3")
    clock.set(clock.now() - timedelta(hours=2))
    with pytest.raises(BudgetRefused):
        reserve(ledger, 301, batch="b3")


def test_a_clock_within_a_few_seconds_raises_no_alarm(open_at, caplog):
    ledger, clock = open_at("2026-01-06T01:00:00")
    reserve(ledger, 1, batch="b1")
    clock.set(clock.now() - timedelta(seconds=5))
    reserve(ledger, 1, batch="b2")
    assert "clock" not in caplog.text


@pytest.mark.postgres
@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_hosts_without_a_clock_of_their_own_go_by_the_databases(url, time_machine):
    # Where it is noon now, so that no midnight comes.
    zone = ZoneInfo(f"Etc/GMT{datetime.now(UTC).hour - 12:+d}")
    with closing(
        open_sql_ledger(url, clock=None, time_zone=zone, default_limit=Money(1000))
    ) as ledger:
        really = ledger.now()
        # This host is ten days ahead; the database is not.
        time_machine.move_to(really + timedelta(days=10), tick=False)

        hold = reserve(ledger)
        capture(ledger, ledger.intent(hold, request()), 10)

        assert hold.budget_date == really.astimezone(zone).date()
        [one] = ledger.attempts("b1")
        assert abs(one.intent_at - really) < timedelta(minutes=10)
        assert figures(ledger) == (290, 10, 0)
