"""Which owners go to a candidate, and which changes of that are refused."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetgen_pipeline.domain.errors import OwnerInvalid
from assetgen_pipeline.domain.lanes import CANDIDATE, STABLE, LaneFigures, Verdict
from assetgen_pipeline.domain.rollout import (
    Candidate,
    Rollout,
    RolloutInvalid,
    RolloutRefused,
    WantedRollout,
    parse_rollout,
    place_of,
    roll_back,
    set_rollout,
)
from assetgen_pipeline_tests.builders import NOW

NANO = Candidate(provider="gemini", model="nano")
FLARE = Candidate(provider="openai", model="flare")
DAY = timedelta(hours=24)
OWNERS = [f"owner-{n}" for n in range(1_000)]


def a_verdict(*against):
    lane = LaneFigures(lane=STABLE, provider="", model="")
    return Verdict(stable=lane, candidate=lane, against=against)


def changed(present, *, at=timedelta(0), candidate=NANO, verdict=None, since=None, **wanted):
    wanted = {"percent": 10, "by": "ann@host", **wanted}
    return set_rollout(
        present,
        WantedRollout(candidate=candidate, **wanted),
        verdict=verdict,
        known_since=since,
        shortest=DAY,
        now=NOW + at,
    )


def on_candidate(rollout):
    return {owner for owner in OWNERS if rollout.lane_of(owner) == CANDIDATE}


def test_without_a_candidate_everybody_is_stable():
    assert on_candidate(Rollout(percent=100, owners=("owner-1",))) == set()


def test_all_and_nobody_are_all_and_nobody():
    assert on_candidate(Rollout(candidate=NANO, percent=100)) == set(OWNERS)
    assert on_candidate(Rollout(candidate=NANO, percent=0)) == set()


@pytest.mark.parametrize("percent", [1, 10, 50, 90])
def test_about_the_percentage_of_owners_is_in(percent):
    rollout = Rollout(candidate=NANO, percent=percent, salt="s")

    assert abs(len(on_candidate(rollout)) - percent * 10) < 50


@given(
    owner=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True),
    salt=st.text(max_size=10),
    percents=st.lists(st.integers(0, 100), min_size=2, max_size=6),
)
def test_no_owner_flips_while_the_percentage_only_grows(owner, salt, percents):
    lanes = [
        Rollout(candidate=NANO, percent=percent, salt=salt).lane_of(owner)
        for percent in sorted(percents)
    ]

    assert lanes == sorted(lanes, reverse=True)  # stable comes after candidate


def test_the_place_of_an_owner_is_the_same_in_every_release():
    places = [place_of(owner, salt="fixed") // 2**32 for owner in ("ada", "ben", "cleo", "dan")]

    assert places == [7, 32, 31, 23]


def test_listed_owners_are_in_whatever_the_percentage_is():
    rollout = changed(Rollout(), percent=0, owners=("studio",))

    assert rollout.lane_of("studio") == CANDIDATE
    assert rollout.is_running


def test_the_documented_form_is_read_without_a_history():
    document = {"candidate": {"provider": "gemini", "model": "nano"}, "percent": 10}

    rollout = parse_rollout(json.dumps({**document, "owners": ["a"], "salt": "x"}).encode())

    assert (rollout.candidate, rollout.percent, rollout.owners) == (NANO, 10, ("a",))


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"not json", "the document"),
        (b"[]", "the document"),
        (b'{"percent": 101}', "percent"),
        (b'{"percent": 10, "perent": 1}', "perent"),
        (b'{"candidate": {"provider": "gemini"}}', "candidate.model"),
    ],
)
def test_an_object_that_cannot_be_read_is_refused_by_field(data, where):
    with pytest.raises(RolloutInvalid, match=where):
        parse_rollout(data)


def test_a_new_candidate_begins_at_any_percentage_with_a_salt_of_its_own():
    first = changed(Rollout(), percent=10)
    second = changed(roll_back(first, by="b", now=NOW), candidate=FLARE, percent=10, at=DAY)

    assert first.salt != second.salt
    assert on_candidate(first) != on_candidate(second)


def test_a_raise_keeps_salt_and_owners_and_adds_those_named():
    first = changed(Rollout(), percent=10, owners=("studio",))

    second = changed(first, percent=50, owners=("agency",), at=DAY, verdict=a_verdict())

    assert second.salt == first.salt
    assert second.owners == ("agency", "studio")
    assert on_candidate(first) < on_candidate(second)


@pytest.mark.parametrize(("after", "refused"), [(DAY - timedelta(seconds=1), True), (DAY, False)])
def test_a_raise_waits_for_the_shortest_time_at_one_percentage(after, refused):
    present = changed(Rollout())

    if refused:
        with pytest.raises(RolloutRefused, match="10 % has to stand for 24 h first, until"):
            changed(present, percent=50, at=after, verdict=a_verdict())
    else:
        assert changed(present, percent=50, at=after, verdict=a_verdict()).percent == 50


def test_naming_an_owner_does_not_start_the_time_anew():
    present = changed(Rollout())
    present = changed(present, owners=("studio",), at=timedelta(hours=20))

    assert changed(present, percent=50, at=DAY, verdict=a_verdict()).percent == 50


def test_going_down_and_up_again_starts_the_time_anew():
    present = changed(Rollout(), percent=20)
    present = changed(present, percent=10, at=DAY)
    present = changed(present, percent=20, at=DAY * 2, verdict=a_verdict())

    with pytest.raises(RolloutRefused):
        changed(present, percent=50, at=DAY * 2 + timedelta(hours=1), verdict=a_verdict())


@pytest.mark.parametrize(("since", "refused"), [(None, True), (NOW - DAY, False)])
def test_without_a_history_the_time_of_the_object_counts(since, refused):
    present = Rollout(candidate=NANO, percent=10, salt="by hand")

    if refused:
        with pytest.raises(RolloutRefused):
            changed(present, percent=50, since=since, verdict=a_verdict())
    else:
        assert changed(present, percent=50, since=since, verdict=a_verdict()).salt == "by hand"


def test_figures_that_speak_against_it_refuse_a_raise():
    present = changed(Rollout())

    with pytest.raises(RolloutRefused, match="too dear"):
        changed(present, percent=50, at=DAY, verdict=a_verdict("too dear"))


@pytest.mark.parametrize("percent", [0, 5, 10])
def test_staying_or_going_down_is_never_refused(percent):
    present = changed(Rollout())

    assert changed(present, percent=percent, verdict=a_verdict("too dear")).percent == percent


def test_force_goes_over_time_and_figures_and_records_who_and_what():
    present = changed(Rollout())

    forced = changed(present, percent=50, by="eve@host", force=True, verdict=a_verdict("too dear"))

    change = forced.history[-1]
    assert (forced.percent, change.by, change.at) == (50, "eve@host", NOW)
    assert change.forced_over[1:] == ("too dear",)
    assert "24 h" in change.forced_over[0]


def test_force_without_need_records_nothing_forced():
    assert changed(Rollout(), force=True).history[-1].forced_over == ()


@pytest.mark.parametrize("present", [{"percent": 10}, {"percent": 0, "owners": ("studio",)}])
def test_another_candidate_does_not_take_over_one_that_is_running(present):
    running = changed(Rollout(), **present)

    with pytest.raises(RolloutRefused, match="gemini/nano is running; roll it back first"):
        changed(running, candidate=FLARE, at=DAY * 9, verdict=a_verdict())


def test_an_owner_that_cannot_be_one_is_refused():
    with pytest.raises(OwnerInvalid):
        changed(Rollout(), owners=("No Owner",))


def test_rolling_back_puts_everybody_on_stable_and_says_who_did():
    present = changed(Rollout(), percent=100, owners=("studio",))

    back = roll_back(present, by="eve@host", now=NOW + DAY)

    assert on_candidate(back) == set()
    assert back.lane_of("studio") == STABLE
    assert not back.is_running
    assert (back.history[-1].action, back.history[-1].by) == ("rollback", "eve@host")
    assert len(back.history) == 2


def test_after_a_rollback_the_same_owners_are_the_first_again():
    first = changed(Rollout(), percent=10)

    again = changed(roll_back(first, by="b", now=NOW), percent=10, at=DAY)

    assert on_candidate(again) == on_candidate(first)


def test_what_is_written_is_read_back():
    rollout = roll_back(changed(Rollout(), owners=("studio",)), by="b", now=NOW)

    assert parse_rollout(rollout.model_dump_json().encode()) == rollout
