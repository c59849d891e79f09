"""Whether the figures of a candidate carry a promotion."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetgen_pipeline.domain.lanes import CANDIDATE, FEWEST_IMAGES, STABLE, LaneFigures, judge
from assetgen_pipeline.domain.money import ZERO, Money


def figures(lane=STABLE, model="old", **changes):
    return LaneFigures(
        **{
            "lane": lane,
            "provider": "p",
            "model": model,
            "images": 100,
            "delivered": 98,
            "cost": Money(98_000),
            "latencies": ((1_000, 60), (2_000, 38)),
            **changes,
        }
    )


def candidate(**changes):
    return figures(CANDIDATE, changes.pop("model", "new"), **changes)


def against(*lanes):
    return judge(lanes, provider="p", model="new").against


def test_a_candidate_that_is_as_good_carries():
    verdict = judge([figures(), candidate()], provider="p", model="new")

    assert verdict.carries
    assert verdict.candidate.cost_per_image == Money(1_000)
    assert verdict.candidate.latency_ms(50) == 1_000
    assert verdict.candidate.latency_ms(95) == 2_000
    assert verdict.candidate.failure_rate == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("worse", "word"),
    [
        ({"delivered": 95, "cost": Money(95_000)}, "fail"),
        ({"cost": Money(98_000 * 121 // 100)}, "costs"),
        ({"latencies": ((1_501, 60), (2_000, 38))}, "50 % of the candidate's images take up to"),
        ({"latencies": ((1_000, 93), (3_001, 5))}, "95 % of the candidate's images take up to"),
    ],
)
def test_each_figure_can_speak_against_it(worse, word):
    [reason] = against(figures(), candidate(**worse))

    assert word in reason


@pytest.mark.parametrize(
    "tolerable",
    [
        {"delivered": 96, "cost": Money(96_000)},
        {"cost": Money(98_000 * 120 // 100)},
        {"latencies": ((1_500, 60), (3_000, 38))},
        {"latencies": ((1_000, 94), (600_000, 4))},
        {"delivered": 100, "cost": Money(1), "latencies": ((0, 100),)},
    ],
)
def test_what_is_only_a_little_worse_or_better_is_no_reason(tolerable):
    assert against(figures(), candidate(**tolerable)) == ()


@pytest.mark.parametrize(
    "lanes",
    [
        [],
        [figures()],
        [candidate()],
        [figures(), candidate(images=FEWEST_IMAGES - 1, delivered=FEWEST_IMAGES - 1)],
    ],
)
def test_too_few_images_of_either_lane_carry_nothing(lanes):
    assert "images of the 20 that it takes" in " ".join(against(*lanes))


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=60),
    st.sampled_from([1, 50, 95, 100]),
)
def test_a_percentile_is_the_latency_that_so_many_of_the_images_kept(latencies, percent):
    counted = tuple(sorted(Counter(latencies).items()))
    lane = figures(delivered=len(latencies), latencies=counted)

    found = lane.latency_ms(percent)

    kept = sum(one <= found for one in latencies)
    kept_less = sum(one < found for one in latencies)
    assert kept * 100 >= percent * len(latencies) > kept_less * 100


def test_lanes_that_delivered_nothing_have_no_latency():
    lane = figures(delivered=0, latencies=())

    assert lane.latency_ms(50) is None


def test_a_candidate_that_never_delivers_fails_and_has_no_price():
    [reason] = against(figures(), candidate(delivered=0, cost=ZERO, latencies=()))

    assert reason.startswith("100.0% of the candidate's images fail")


def test_all_models_of_the_stable_lane_are_what_it_is_compared_with():
    lanes = [
        figures(images=10, delivered=10, cost=Money(10_000), latencies=((1_000, 10),)),
        figures(
            model="older", images=10, delivered=10, cost=Money(10_000), latencies=((2_000, 10),)
        ),
        candidate(delivered=100, cost=Money(100_000), latencies=((1_500, 50), (3_000, 50))),
    ]

    assert against(*lanes) == ()


def test_an_earlier_candidate_says_nothing_of_the_present_one():
    earlier = candidate(model="newer", delivered=0, latencies=())

    assert against(figures(), candidate(), earlier) == ()
