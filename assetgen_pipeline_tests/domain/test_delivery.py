"""When links must be signed anew, to the second."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetgen_pipeline.domain.delivery import (
    LinkAction,
    LinkLife,
    SignedUrl,
    SignedUrls,
    UrlPolicy,
    needs_refresh,
    published_margin,
    run_margin,
)
from assetgen_pipeline_tests.builders import BATCH_ID, NOW

MARGIN = timedelta(minutes=5)
HOUR, DAY, SECOND = timedelta(hours=1), timedelta(days=1), timedelta(seconds=1)
POLICY = UrlPolicy()


def ends(at):
    return SignedUrl(url="https://storage.test/x", expires_at=at, signer="fake")


def a_life(*, signed=NOW, ttl=7 * DAY, published=None):
    return LinkLife(signed_at=signed, expires_at=signed + ttl, published_at=published or signed)


@pytest.mark.parametrize(
    ("left", "refresh"),
    [
        (MARGIN + SECOND, False),
        (MARGIN + timedelta(microseconds=1), False),
        (MARGIN, False),
        (MARGIN - timedelta(microseconds=1), True),
        (MARGIN - SECOND, True),
        (timedelta(0), True),
        (-SECOND, True),
    ],
    ids=["5:01", "just above", "5:00", "just below", "4:59", "now", "expired"],
)
def test_a_url_is_renewed_when_it_has_less_than_five_minutes_left(left, refresh):
    assert needs_refresh(ends(NOW + left), NOW, MARGIN) is refresh


@pytest.mark.parametrize(
    ("zone", "now"),
    [
        # The wall clock jumps from 2:00 to 3:00, and falls back from 3:00 to 2:00.
        ("Europe/Berlin", datetime(2026, 3, 29, 0, 58, tzinfo=UTC)),
        ("Europe/Berlin", datetime(2026, 10, 25, 0, 58, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 3, 8, 6, 58, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize(
    ("left", "refresh"), [(MARGIN, False), (MARGIN - SECOND, True), (MARGIN + SECOND, False)]
)
def test_a_change_to_summer_time_moves_no_link(zone, now, left, refresh):
    local = now.astimezone(ZoneInfo(zone))
    end = (now + left).astimezone(ZoneInfo(zone))

    assert needs_refresh(ends(end), local, MARGIN) is refresh


@pytest.mark.parametrize("skew", [timedelta(minutes=3), -timedelta(minutes=3)])
def test_a_clock_that_is_three_minutes_wrong_never_lets_a_link_die(skew):
    life = a_life(ttl=12 * HOUR)
    really = life.expires_at

    first_due = next(
        at
        for at in (NOW + timedelta(minutes=minute) for minute in range(13 * 60))
        if needs_refresh(life, at + skew, MARGIN)
    )

    assert really - first_due > timedelta(0)


@pytest.mark.parametrize(
    ("ttl", "expected"),
    [
        (7 * DAY, timedelta(hours=16, minutes=48)),
        (timedelta(minutes=50), MARGIN),
        (timedelta(minutes=10), MARGIN),
        (12 * HOUR, timedelta(minutes=72)),
        (timedelta(minutes=4), timedelta(minutes=2)),
    ],
)
def test_a_published_link_keeps_the_margin_or_a_tenth_of_its_life(ttl, expected):
    assert published_margin(ttl, MARGIN) == expected


def test_a_run_keeps_the_margin_but_of_a_short_life_only_half():
    assert run_margin(7 * DAY, MARGIN) == MARGIN
    assert run_margin(timedelta(minutes=4), MARGIN) == timedelta(minutes=2)


@pytest.mark.parametrize(
    ("life", "passed", "action"),
    [
        (a_life(), 7 * DAY - timedelta(hours=16, minutes=48), LinkAction.WAIT),
        (a_life(), 7 * DAY - timedelta(hours=16, minutes=47), LinkAction.REFRESH),
        (a_life(ttl=12 * HOUR), 12 * HOUR - timedelta(minutes=72), LinkAction.WAIT),
        (a_life(ttl=12 * HOUR), 12 * HOUR - timedelta(minutes=71), LinkAction.REFRESH),
        (a_life(ttl=12 * HOUR), 12 * HOUR, LinkAction.REFRESH),
        (a_life(), 400 * DAY, LinkAction.LAPSE),
        (a_life(published=NOW - 89 * DAY), DAY - SECOND, LinkAction.WAIT),
        (a_life(published=NOW - 84 * DAY), 6 * DAY - SECOND, LinkAction.WAIT),
        (a_life(published=NOW - 84 * DAY), 7 * DAY - SECOND, LinkAction.WAIT),
        (a_life(published=NOW - 84 * DAY), 7 * DAY, LinkAction.LAPSE),
        (a_life(published=NOW - 89 * DAY, ttl=12 * HOUR), 11 * HOUR, LinkAction.REFRESH),
        (a_life(), -2 * DAY, LinkAction.WAIT),
    ],
)
def test_published_links_are_kept_fresh_within_the_retention_and_given_up_when_they_end(
    life, passed, action
):
    assert life.action(NOW + passed, POLICY) is action


def test_a_shorter_ttl_of_today_does_not_make_all_older_links_due():
    assert a_life().action(NOW + 6 * DAY + 12 * HOUR, POLICY) is LinkAction.REFRESH
    assert a_life().action(NOW + 6 * DAY + 12 * HOUR, UrlPolicy(ttl=HOUR)) is LinkAction.WAIT


@given(st.timedeltas(SECOND, 7 * DAY), st.timedeltas(timedelta(0), 3 * HOUR))
def test_a_link_that_was_just_signed_is_never_due_at_once(ttl, margin):
    policy = UrlPolicy(ttl=ttl, refresh_margin=margin)

    assert a_life(ttl=ttl).action(NOW, policy) is LinkAction.WAIT


def test_a_life_survives_its_journey_through_metadata():
    life = a_life(published=NOW - DAY)

    assert LinkLife.from_metadata(life.as_metadata(), hour=NOW) == life


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"signed_at": "x", "expires_at": "", "published_at": ""},
        dict.fromkeys(("signed_at", "expires_at", "published_at"), "2027-01-01T00:00:00"),
    ],
)
def test_an_index_entry_of_somebody_else_is_due_when_its_hour_begins(metadata):
    life = LinkLife.from_metadata(metadata, hour=NOW)

    assert life.action(NOW + SECOND, POLICY) is LinkAction.REFRESH
    assert life.action(NOW - SECOND, POLICY) is LinkAction.WAIT


def test_an_artifact_of_the_former_release_says_nothing_of_its_life():
    old = '{"batch_id": "%s", "urls": 2, "signer": "local", "expires_at": "%s"}'

    assert SignedUrls.model_validate_json(old % (BATCH_ID, NOW.isoformat())).life is None


def test_links_may_be_kept_fresh_for_ever():
    for_ever = UrlPolicy(refresh_retention=timedelta.max)
    life = LinkLife(signed_at=NOW, expires_at=NOW, published_at=NOW)

    assert life.action(NOW + timedelta(days=36_500), for_ever) is LinkAction.REFRESH
