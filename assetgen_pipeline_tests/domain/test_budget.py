"""Which day it is, where midnight is missing, doubled or moved."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from assetgen_pipeline.domain.budget import (
    AttemptToken,
    BudgetDay,
    StoredImage,
    budget_date_at,
    day_bounds,
)
from assetgen_pipeline.domain.money import ZERO, Money


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# (zone, day, first instant of it, first instant of the next day)
DAYS = [
    ("UTC", "2026-01-05", "2026-01-05T00:00:00", "2026-01-06T00:00:00"),
    ("Europe/Berlin", "2026-03-29", "2026-03-28T23:00:00", "2026-03-29T22:00:00"),
    ("Europe/Berlin", "2026-10-25", "2026-10-24T22:00:00", "2026-10-25T23:00:00"),
    ("Africa/Cairo", "2024-04-26", "2024-04-25T22:00:00", "2024-04-26T21:00:00"),
    ("America/Santiago", "2024-09-08", "2024-09-08T04:00:00", "2024-09-09T03:00:00"),
    ("America/Havana", "2024-03-10", "2024-03-10T05:00:00", "2024-03-11T04:00:00"),
    ("America/Havana", "2024-11-03", "2024-11-03T04:00:00", "2024-11-04T05:00:00"),
    ("Asia/Beirut", "2024-03-31", "2024-03-30T22:00:00", "2024-03-31T21:00:00"),
    ("Australia/Lord_Howe", "2024-04-07", "2024-04-06T13:00:00", "2024-04-07T13:30:00"),
    ("Australia/Lord_Howe", "2024-10-06", "2024-10-05T13:30:00", "2024-10-06T13:00:00"),
    ("Pacific/Apia", "2011-12-29", "2011-12-29T10:00:00", "2011-12-30T10:00:00"),
    ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00", "2011-12-30T10:00:00"),
    ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00", "2011-12-31T10:00:00"),
    ("Pacific/Kiritimati", "2026-01-05", "2026-01-04T10:00:00", "2026-01-05T10:00:00"),
    ("Etc/GMT+12", "2026-01-05", "2026-01-05T12:00:00", "2026-01-06T12:00:00"),
    ("Asia/Kathmandu", "2026-01-05", "2026-01-04T18:15:00", "2026-01-05T18:15:00"),
]


@pytest.mark.parametrize(("zone", "day", "start", "end"), DAYS)
def test_a_day_begins_and_ends_where_its_zone_says(zone, day, start, end):
    assert day_bounds(date.fromisoformat(day), ZoneInfo(zone)) == (at(start), at(end))


@pytest.mark.parametrize(("zone", "day", "start", "end"), [row for row in DAYS if row[2] != row[3]])
def test_the_bounds_agree_with_the_date_of_instants(zone, day, start, end):
    time_zone, wanted = ZoneInfo(zone), date.fromisoformat(day)
    tick = timedelta(microseconds=1)
    assert budget_date_at(at(start), time_zone) == wanted
    assert budget_date_at(at(start) - tick, time_zone) < wanted
    assert budget_date_at(at(end) - tick, time_zone) == wanted
    assert budget_date_at(at(end), time_zone) > wanted


def test_a_date_that_comes_back_ends_when_it_is_gone_for_good():
    zone = ZoneInfo("America/St_Johns")
    start, end = day_bounds(date(2010, 11, 6), zone)
    # At 00:01 on the 7th clocks went back to 23:01 on the 6th.
    assert (start, end) == (at("2010-11-06T02:30:00"), at("2010-11-07T03:30:00"))
    assert budget_date_at(at("2010-11-07T02:30:30"), zone) == date(2010, 11, 7)
    assert budget_date_at(at("2010-11-07T02:31:00"), zone) == date(2010, 11, 6)
    assert day_bounds(date(2010, 11, 7), zone) == (end, at("2010-11-08T03:30:00"))


@pytest.mark.parametrize(
    "zone", ["UTC", "Africa/Cairo", "America/St_Johns", "Australia/Lord_Howe", "America/Havana"]
)
def test_days_follow_one_another_without_a_gap(zone):
    day = date(2024, 1, 1)
    while day < date(2025, 1, 1):
        following = day + timedelta(days=1)
        assert day_bounds(day, ZoneInfo(zone))[1] == day_bounds(following, ZoneInfo(zone))[0]
        day = following + timedelta(days=12)


@pytest.mark.parametrize(("settled", "headroom"), [(0, 600), (600, 0), (900, 0)])
def test_headroom_is_never_negative(settled, headroom):
    day = BudgetDay(
        owner="ann",
        budget_date=date(2026, 1, 5),
        limit=Money(1000),
        held=Money(400),
        settled=Money(settled),
        assumed=ZERO,
        overrun=ZERO,
        resets_at=at("2026-01-06T00:00:00"),
    )
    assert day.headroom == Money(headroom)


def test_a_token_cannot_be_made_by_hand():
    with pytest.raises(TypeError, match=r"intent\(\)"):
        AttemptToken("a", 1, ZERO)
    assert "seal" not in repr(AttemptToken.mint(attempt_id="a", attempt_no=1, ceiling=ZERO))


def test_a_stored_image_describes_its_bytes():
    image = StoredImage.of(
        b"abc", object_name="o", thumbnail_name="t", mime_type="image/png", size=(2, 3)
    )
    assert (image.size_bytes, image.width, image.height) == (3, 2, 3)
    assert image.sha256.startswith("ba7816bf")


def test_a_midnight_off_the_quarter_hours_is_found_to_the_second():
    # Liberia kept 44 minutes and 30 seconds behind Greenwich until 1972.
    start, end = day_bounds(date(1970, 1, 2), ZoneInfo("Africa/Monrovia"))

    assert start == datetime(1970, 1, 2, 0, 44, 30, tzinfo=UTC)
    assert end == datetime(1970, 1, 3, 0, 44, 30, tzinfo=UTC)
