"""How fast to ask a provider, decided from its answers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetgen_pipeline.domain.circuit_breaker import LONGEST_WAIT_S
from assetgen_pipeline.domain.generation import FAILURE_RULES, ErrorKind, ProviderError
from assetgen_pipeline.domain.pace import ConcurrencyLimit, Pace, TokenBucket

SLOWS = sorted(kind for kind, rule in FAILURE_RULES.items() if rule.slows)


def refused(kind=ErrorKind.RATE_LIMITED, after=None):
    return ProviderError("slow down", kind=kind, retry_after_s=after)


def images(pace, count, *, now=0.0):
    for _ in range(count):
        pace.end(pace.start(now), None, now=now)


def test_requests_begin_at_the_ceiling():
    assert Pace(ceiling=8).slots == 8


@pytest.mark.parametrize("ceiling", [0, -1])
def test_a_ceiling_that_lets_nothing_begin_is_refused(ceiling):
    with pytest.raises(ValueError, match="never"):
        Pace(ceiling=ceiling)


def test_no_more_start_than_there_are_slots():
    pace = Pace(ceiling=2)
    pace.start(0.0)
    free = pace.wait_s(0.0)
    pace.start(0.0)

    assert (free, pace.wait_s(0.0)) == (0.0, math.inf)


@pytest.mark.parametrize("kind", SLOWS)
def test_a_refusal_cuts_by_a_quarter(kind):
    pace = Pace(ceiling=8)

    pace.end(pace.start(0.0), refused(kind), now=1.0)

    assert pace.slots == 6


@pytest.mark.parametrize("kind", sorted(set(ErrorKind) - set(SLOWS)))
def test_other_failures_do_not_cut(kind):
    pace = Pace(ceiling=8)

    pace.end(pace.start(0.0), refused(kind), now=1.0)

    assert (pace.slots, pace.wait_s(1.0)) == (8, 0.0)


def test_only_the_first_refusal_of_a_burst_cuts():
    pace = Pace(ceiling=8)
    burst = [pace.start(0.0) for _ in range(8)]

    for started in burst:
        pace.end(started, refused(), now=1.0)

    assert pace.slots == 6


def test_a_refusal_of_what_started_after_the_cut_cuts_again():
    pace = Pace(ceiling=8)
    pace.end(pace.start(0.0), refused(), now=1.0)

    pace.end(pace.start(5.0), refused(), now=6.0)

    assert pace.slots == 4


def test_a_success_that_started_before_the_cut_does_not_undo_it():
    pace = Pace(ceiling=8)
    early = pace.start(0.0)
    pace.end(pace.start(0.0), refused(), now=1.0)

    pace.end(early, None, now=2.0)

    assert pace.slots == 6


def test_twenty_five_images_in_a_row_add_one():
    pace = Pace(ceiling=100)
    pace.end(pace.start(0.0), refused(), now=0.0)
    images(pace, 24, now=9.0)
    before = pace.slots
    images(pace, 1, now=9.0)

    assert (before, pace.slots) == (75, 76)


def test_below_what_was_refused_a_round_of_images_adds_one_and_the_refused_level_takes_longer():
    pace, slots = Pace(ceiling=8), []
    pace.end(pace.start(0.0), refused(), now=0.0)

    for count in (5, 1, 24, 1):
        images(pace, count, now=9.0)
        slots.append(pace.slots)

    assert slots == [6, 7, 7, 8]


def test_growth_stops_for_a_while_one_step_past_what_was_refused():
    limit = ConcurrencyLimit(20)
    for _ in range(5):
        limit.cut()
    slots = []  # Cut at 6.3 to 4.7.

    for count in (3, 1, 24, 1, 99, 1, 99, 1):
        for _ in range(count):
            limit.grow()
        slots.append(limit.slots)

    assert slots == [4, 5, 5, 6, 6, 7, 7, 8]


def seconds_for(requests, *, latency_s, refuses):
    """What images take with every slot used; `refuses(number, in_flight)` says which are refused."""
    pace, now, flying, images, number = Pace(ceiling=8), 0.0, [], 0, 0
    while images < requests:
        while (wait_s := pace.wait_s(now)) == 0.0:
            number += 1
            started = pace.start(now)
            failure = refused() if refuses(number, pace.in_flight) else None
            flying.append((now + latency_s, started, failure))
        ends_at, started, failure = min(flying, key=lambda one: one[0], default=(math.inf, 0, None))
        if now + wait_s < ends_at:
            now += wait_s
            continue
        flying.remove((ends_at, started, failure))
        now = ends_at
        pace.end(started, failure, now=now)
        images += failure is None
    return now


def test_bursts_of_refusals_now_and_then_do_not_wear_the_pace_down():
    seconds = seconds_for(2_000, latency_s=20.0, refuses=lambda number, _: number % 50 < 3)

    assert seconds < 1.35 * 2_000 * 20.0 / 8


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 6, 7])
def test_below_a_provider_s_true_limit_most_of_it_is_used(most):
    seconds = seconds_for(500, latency_s=20.0, refuses=lambda _, in_flight: in_flight > most)

    assert seconds < 1.4 * 500 * 20.0 / most


def test_growth_never_passes_the_ceiling():
    pace = Pace(ceiling=3)

    images(pace, 1_000)

    assert pace.slots == 3


@pytest.mark.parametrize("kind", [*SLOWS, ErrorKind.TRANSIENT])
def test_what_the_provider_asks_to_wait_everybody_waits(kind):
    pace = Pace(ceiling=8)

    pace.end(pace.start(0.0), refused(kind, after=30.0), now=1.0)

    assert (pace.wait_s(1.0), pace.wait_s(30.5), pace.wait_s(31.0)) == (30.0, 0.5, 0.0)


def test_no_answer_holds_a_slot_of_the_deployment_for_days():
    week_s = 7 * 86_400.0
    pace = Pace(ceiling=8)

    pace.end(pace.start(0.0), refused(after=week_s), now=0.0)
    pace.pause(week_s, now=0.0)

    assert pace.wait_s(0.0) == LONGEST_WAIT_S


def test_the_longest_wait_of_a_burst_counts():
    pace = Pace(ceiling=8)
    first, second = pace.start(0.0), pace.start(0.0)

    pace.end(first, refused(after=30.0), now=1.0)
    pace.end(second, refused(after=5.0), now=1.0)

    assert pace.wait_s(1.0) == 30.0


def test_without_a_word_of_the_provider_the_pause_doubles_up_to_a_minute_until_an_image_comes():
    pace, now, pauses = Pace(ceiling=8), 0.0, []
    for _ in range(7):
        pace.end(pace.start(now), refused(), now=now)
        pauses.append(pace.wait_s(now))
        now += pauses[-1]
    images(pace, 1, now=now)
    pace.end(pace.start(now), refused(), now=now)

    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert pace.wait_s(now) == 2.0


def test_a_wait_of_zero_is_taken_at_its_word():
    pace = Pace(ceiling=8)

    pace.end(pace.start(0.0), refused(after=0.0), now=1.0)

    assert (pace.slots, pace.wait_s(1.0)) == (6, 0.0)


@given(
    ceiling=st.integers(1, 64),
    steps=st.lists(
        st.tuples(st.sampled_from(["start", "image", "refused", "failed"]), st.floats(0.0, 30.0)),
        max_size=200,
    ),
)
def test_whatever_happens_slots_stay_between_one_and_the_ceiling(ceiling, steps):
    pace, now, flying = Pace(ceiling=ceiling), 0.0, []
    endings = {
        "image": None,
        "refused": refused(),
        "failed": refused(ErrorKind.TRANSIENT, after=1.0),
    }
    for step, later in steps:
        now += later
        if step == "start":
            if pace.wait_s(now) == 0.0:
                flying.append(pace.start(now))
        elif flying:
            pace.end(flying.pop(0), endings[step], now=now)
        assert 1 <= pace.slots <= ceiling
        assert pace.in_flight == len(flying) <= ceiling
        assert pace.wait_s(now) >= 0.0


@given(per_minute=st.integers(1, 600), idle_s=st.floats(0.0, 500.0))
def test_no_minute_has_more_starts_than_its_limit(per_minute, idle_s):
    bucket, now, starts = TokenBucket(per_minute, now=0.0), idle_s, []
    while len(starts) <= per_minute + 40:
        wait_s = bucket.wait_s(now)
        now += wait_s
        if bucket.wait_s(now) > 0.0:
            continue
        bucket.take(now)
        starts.append(now)

    crowded = [
        first
        for first, last in zip(starts, starts[per_minute:], strict=False)
        if last - first < 60.0 - 1e-6
    ]
    assert crowded == []


@given(per_minute=st.integers(1, 600))
def test_a_limit_per_minute_is_nearly_used_up_by_those_who_wait(per_minute):
    bucket, now, starts = TokenBucket(per_minute, now=0.0), 0.0, 0
    while now < 600.0:
        now += bucket.wait_s(now)
        bucket.take(now)
        starts += 1

    assert starts >= per_minute * 10 * 0.94


@pytest.mark.parametrize("per_minute", [0, -5])
def test_a_limit_per_minute_that_lets_nothing_begin_is_refused(per_minute):
    with pytest.raises(ValueError, match="never"):
        TokenBucket(per_minute, now=0.0)


def test_the_tighter_of_two_limits_counts():
    tight, wide = TokenBucket(6, now=0.0), TokenBucket(600, now=0.0)
    pace = Pace(ceiling=8, buckets=[wide, tight])

    pace.start(0.0)

    assert pace.wait_s(0.0) == pytest.approx(10.0)
