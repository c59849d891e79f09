from collections import Counter
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assetgen_pipeline.domain.bucket_layout import is_batch_id
from assetgen_pipeline.domain.inbox import (
    MAX_ATTEMPTS,
    DropSeen,
    PendingDrop,
    TickCursor,
    plan_tick,
    run_key,
)
from assetgen_pipeline_tests.builders import BUCKET, NOW

NO_NAME = "its name is empty or has control characters, or its folder is not the name of an owner"


def seen(name="inbox/studio/a.csv", *, generation=1, age_s=0, too_large=False):
    return DropSeen(
        name=name,
        generation=generation,
        updated_at=NOW - timedelta(seconds=age_s),
        too_large=too_large,
    )


def tick(*listing, cursor=None, states=None, owners=None, max_runs=20, now=NOW, paused=()):
    return plan_tick(
        listing,
        bucket=BUCKET,
        cursor=cursor or TickCursor(),
        run_states=states or {},
        owners_allowed=owners,
        max_runs=max_runs,
        now=now,
        is_paused=lambda owner: owner in paused,
    )


def pending(attempt=1, **changes):
    drop = PendingDrop(name="inbox/studio/a.csv", generation=1, attempt=attempt, requested_at=NOW)
    return TickCursor(pending=(drop.model_copy(update=changes),))


def test_a_new_drop_is_asked_a_run_for_once():
    first = tick(seen())

    (run,) = first.requests
    assert run.run_key == "inbox/studio/a.csv#1#1"
    assert (run.drop.owner, run.generation, run.attempt, run.dry_run) == ("studio", 1, 1, False)
    assert is_batch_id(run.batch_id)
    assert tick(seen(), cursor=first.cursor).requests == ()


def test_a_file_that_is_too_large_is_told_once_and_never_asked_a_run_for():
    first = tick(seen(too_large=True))
    second = tick(
        seen(too_large=True), cursor=first.cursor, now=NOW + timedelta(days=1), paused={"studio"}
    )
    replaced = tick(seen(generation=2), cursor=second.cursor)

    assert [run.drop.name for run in first.too_large] == ["inbox/studio/a.csv"]
    assert (first.requests, first.given_up) == ((), ())
    assert (second.requests, second.given_up, second.too_large) == ((), (), ())
    assert [run.generation for run in replaced.requests] == [2]


def test_a_dry_run_says_so():
    assert tick(seen("inbox/studio/dry-run/a.csv")).requests[0].dry_run


def test_the_same_name_dropped_again_is_another_batch():
    first = tick(seen())
    second = tick(seen(generation=2), cursor=first.cursor)

    assert second.requests[0].batch_id != first.requests[0].batch_id
    assert [item.generation for item in second.cursor.pending] == [2]


def test_a_claimed_drop_is_forgotten():
    assert tick(cursor=pending()).cursor == TickCursor()


@pytest.mark.parametrize("state", ["failed", "done"])
def test_a_run_that_ended_before_it_claimed_its_file_is_asked_for_again(state):
    plan = tick(seen(), cursor=pending(), states={run_key("inbox/studio/a.csv", 1, 1): state})

    assert [run.attempt for run in plan.requests] == [2]
    assert [item.attempt for item in plan.cursor.pending] == [2]


def test_the_retries_of_one_drop_are_one_batch():
    again = tick(seen(), cursor=pending(), states={pending().pending[0].run_key: "failed"})

    assert again.requests[0].batch_id == tick(seen()).requests[0].batch_id


@pytest.mark.parametrize("state", ["live", "unknown"])
def test_a_run_under_way_is_waited_for(state):
    cursor = pending()
    plan = tick(seen(), cursor=cursor, states={cursor.pending[0].run_key: state})

    assert plan.requests == ()
    assert plan.cursor == cursor


def test_a_request_that_nobody_knows_of_is_made_again_with_the_same_key():
    later = NOW + timedelta(minutes=1)

    (run,) = tick(seen(), cursor=pending(), now=later).requests

    assert run.run_key == pending().pending[0].run_key


def test_a_live_run_may_take_as_long_as_it_takes():
    cursor = pending()
    states = {cursor.pending[0].run_key: "live"}

    assert tick(seen(), cursor=cursor, states=states, now=NOW + timedelta(days=9)).requests == ()


def test_after_three_attempts_a_drop_is_given_up_and_reported_once():
    cursor = pending(attempt=MAX_ATTEMPTS)
    states = {cursor.pending[0].run_key: "failed"}

    plan = tick(seen(), cursor=cursor, states=states)
    after = tick(seen(), cursor=plan.cursor, states=states, now=NOW + timedelta(days=1))

    assert plan.requests == ()
    assert [(run.drop.name, run.attempt) for run in plan.given_up] == [("inbox/studio/a.csv", 3)]
    assert (after.requests, after.given_up) == ((), ())
    assert after.cursor == plan.cursor


def test_a_retry_that_finds_no_place_in_the_tick_waits_for_the_next():
    cursor = pending()
    states = {cursor.pending[0].run_key: "failed"}

    plan = tick(seen(), cursor=cursor, states=states, max_runs=0)

    assert plan.cursor == cursor
    assert tick(seen(), cursor=plan.cursor, states=states).requests[0].attempt == 2


def test_owners_take_turns_within_a_tick_oldest_drop_first():
    listing = [seen(f"inbox/busy/{n}.csv", age_s=1000 - n) for n in range(9)]
    listing += [seen("inbox/calm/x.csv"), seen("inbox/calm/w.csv", age_s=5)]

    names = [run.drop.name for run in tick(*listing, max_runs=5).requests]

    assert names == [
        "inbox/busy/0.csv", "inbox/calm/w.csv", "inbox/busy/1.csv", "inbox/calm/x.csv",
        "inbox/busy/2.csv",
    ]  # fmt: skip


def test_owners_take_turns_over_ticks_so_that_none_starves():
    listing = [seen(f"inbox/{owner}/{n}.csv") for owner in "abc" for n in range(9)]
    cursor, served = TickCursor(), []
    for _ in range(4):
        plan = tick(*listing, cursor=cursor, max_runs=1)
        cursor = plan.cursor
        served += [run.drop.owner for run in plan.requests]

    assert served == ["a", "b", "c", "a"]


def test_other_deployments_owners_are_passed_over_in_silence():
    plan = tick(seen(), seen("inbox/rival/a.csv"), owners=frozenset({"rival"}))

    assert [run.drop.owner for run in plan.requests] == ["rival"]
    assert plan.ignored == ()


def test_what_is_no_batch_is_left_alone_and_reported_once():
    strays = {
        "inbox/studio/a.txt": "not a .csv file",
        "inbox/loose.csv": "not in an owner's folder",
        "inbox/studio/deep/a.csv": "in a deeper folder; only dry-run/ is looked into",
        "inbox/Studio/a.csv": NO_NAME,
        "inbox/studio/a\0.csv": NO_NAME,
    }
    listing = [seen(name) for name in (*strays, "inbox/", "inbox/studio/", "inbox/studio/b.csv")]

    first = tick(*listing)
    second = tick(*listing, seen("inbox/new.csv"), cursor=first.cursor)
    third = tick(*listing[1:], cursor=second.cursor)

    assert dict(first.ignored) == strays
    assert len(first.requests) == 1
    assert [name for name, _ in second.ignored] == ["inbox/new.csv"]
    assert third.ignored == ()
    back = tick(*listing, cursor=third.cursor)
    assert back.ignored == (("inbox/studio/a.txt", "not a .csv file"),)


def test_a_flood_of_strays_does_not_blow_up_the_cursor():
    listing = [seen(f"inbox/studio/{'x' * 900}{n}.txt") for n in range(1_500)]

    first = tick(*listing)

    assert len(first.cursor.ignored) == len(first.ignored) == 1_000
    assert len(first.cursor.model_dump_json()) < 12_000
    assert tick(*listing, cursor=first.cursor).ignored == ()


def test_the_cursor_travels_as_json():
    cursor = tick(seen(), seen("inbox/x.txt")).cursor

    assert TickCursor.model_validate_json(cursor.model_dump_json()) == cursor


class World:
    """A bucket and a Dagster: runs claim their file, die before that, or never start."""

    def __init__(self, seed):
        self.random = Random(seed)
        names = [f"inbox/owner{n % 7}/{n}.csv" for n in range(1_000)]
        self.listed = {name: seen(name, age_s=self.random.randrange(9999)) for name in names}
        self.states = {}
        self.claims = Counter()

    def start(self, run):
        assert self.states.get(run.run_key) is None, "asked twice for a run that exists"
        if self.random.random() < 0.9:
            self.states[run.run_key] = "live"

    def let_time_pass(self, pending):
        for item in pending:
            if self.states.get(item.run_key) == "live" and self.random.random() < 0.7:
                dies = self.random.random() < 0.3
                self.states[item.run_key] = "failed" if dies else "done"
                if not dies:
                    self.claims[item.name] += 1
                    del self.listed[item.name]


@settings(max_examples=10, deadline=None)
@given(st.integers())
def test_a_backlog_of_a_thousand_files_loses_none_and_doubles_none(seed):
    world, cursor, now, given_up = World(seed), TickCursor(), NOW, Counter()
    names = set(world.listed)
    while not world.listed.keys() <= given_up.keys():
        plan = tick(
            *world.listed.values(), cursor=cursor, states=world.states, max_runs=50, now=now
        )
        assert len(plan.requests) <= 50
        for run in plan.requests:
            world.start(run)
        given_up.update(run.drop.name for run in plan.given_up)
        cursor, now = plan.cursor, now + timedelta(seconds=70)
        world.let_time_pass(cursor.pending)

    assert set(world.claims.values()) == {1}
    assert set(given_up.values()) <= {1}
    assert world.claims.keys() | given_up.keys() == names
    assert world.claims.keys().isdisjoint(given_up)
    assert tick(cursor=cursor, now=now).cursor.pending == ()


def test_the_drops_of_a_paused_owner_are_left_alone_counted_and_taken_once_resumed():
    listing = [seen("inbox/ada/a.csv"), seen("inbox/ada/b.csv"), seen("inbox/ben/c.csv")]

    paused = tick(*listing, paused={"ada"})
    resumed = tick(*listing, cursor=paused.cursor)

    assert [run.drop.owner for run in paused.requests] == ["ben"]
    assert paused.paused == {"ada": 2}
    assert [run.drop.name for run in resumed.requests] == ["inbox/ada/a.csv", "inbox/ada/b.csv"]
    assert resumed.paused == {}


def test_a_pause_does_not_use_up_the_attempts_at_a_drop():
    states = {run_key("inbox/studio/a.csv", 1, MAX_ATTEMPTS): "failed"}

    paused = tick(seen(), cursor=pending(MAX_ATTEMPTS), states=states, paused={"studio"})

    assert (paused.given_up, paused.cursor) == ((), pending(MAX_ATTEMPTS))


def test_a_lost_request_is_made_again_also_after_the_clock_was_put_back():
    earlier = NOW - timedelta(hours=2)

    (run,) = tick(seen(), cursor=pending(), now=earlier).requests

    assert run.run_key == pending().pending[0].run_key
