"""The load test's bars: each falls when it should, and none of the others with it."""

import csv

import pytest

from assetgen_pipeline.domain.load_test import (
    LoadFigures,
    fetching_seconds,
    generating_seconds,
    judge,
    load_csv,
)
from assetgen_pipeline.domain.money import ZERO, Money

URLS = {
    "answers": ["http://127.0.0.1:1"],
    "hangs": ["http://127.0.0.1:2", "http://127.0.0.1:3"],
    "fails": ["http://127.0.0.1:4"],
}


def figures(**changes):
    return LoadFigures(
        **{
            "rows": 100,
            "images": 100,
            "delivered": 100,
            "state": "completed",
            "seconds": 90.0,
            "ideal_seconds": 60.0,
            "estimate": Money(4_900_000),
            "spent": Money(3_500_000),
            "limit": Money(6_000_000),
            "overrun": ZERO,
            "provider_requests": 107,
            "provider_failures": 7,
            "provider_refusals": 3,
            "provider_billed": 100,
            "booked": 100,
            "reference_requests": 70,
            "hanging_requests": 12,
            "hanging_still_open": 0,
            "longest_hang_seconds": 10.1,
            "fetch_deadline_seconds": 10.0,
            "peak_fetches": 4,
            "urls_refreshed": 8,
            "links_checked": 104,
            "links_expired": 0,
            "ledger_violations": 0,
            "peak_memory_mb": 300,
            "peak_memory_all_mb": 1_400,
            **changes,
        }
    )


def fallen(**changes):
    return [bar.name for bar in judge(figures(**changes)) if not bar.passed]


def test_a_good_run_passes_every_bar():
    assert fallen() == []


@pytest.mark.parametrize(
    ("bar", "changes"),
    [
        ("images delivered", {"delivered": 98, "provider_billed": 98, "booked": 98}),
        ("images delivered", {"images": 0, "delivered": 0, "provider_billed": 0, "booked": 0}),
        ("failures provoked", {"provider_failures": 0}),
        ("hanging fetches ended at their deadline", {"hanging_still_open": 1}),
        ("hanging fetches ended at their deadline", {"longest_hang_seconds": 15.1}),
        ("hanging fetches ended at their deadline", {"hanging_requests": 0}),
        ("peak fetches", {"peak_fetches": 5}),
        ("peak fetches", {"peak_fetches": 3}),
        ("overspend", {"spent": Money(6_000_001)}),
        ("overspend", {"overrun": Money(1)}),
        ("duplicate_payments", {"provider_billed": 101, "booked": 101}),
        ("unbooked payments", {"booked": 99}),
        ("ledger violations", {"ledger_violations": 1}),
        ("URLs refreshed meanwhile", {"urls_refreshed": 0}),
        ("expired links", {"links_expired": 1}),
        ("expired links", {"links_checked": 0}),
        ("seconds", {"seconds": 180.1}),
    ],
)
def test_a_bar_falls_alone_when_its_figure_is_missed(bar, changes):
    assert fallen(**changes) == [bar]


@pytest.mark.parametrize(
    "changes",
    [
        {"delivered": 99, "provider_billed": 99, "booked": 99},
        {"longest_hang_seconds": 15.0},
        {"spent": Money(6_000_000)},
        {"seconds": 180.0},
        {"rows": 5_000, "seconds": 2_000.0},
    ],
)
def test_what_just_reaches_a_bar_passes(changes):
    assert fallen(**changes) == []


def test_every_hanging_and_failing_address_is_in_the_file_and_most_are_shared():
    rows = list(csv.DictReader(load_csv(100, URLS).splitlines()))
    named = [row["reference_urls"] for row in rows]

    assert len({row["scene_id"] for row in rows}) == 100
    assert len({row["prompt"] for row in rows}) == 100
    assert {url.rsplit("/", 1)[0] for url in named} == {u for urls in URLS.values() for u in urls}
    assert 45 <= len(set(named)) <= 55


def test_the_ideal_time_of_fetches_is_never_less_than_one_that_hangs():
    alone = fetching_seconds(references=0, latency_s=0.2, hanging=1, hang_s=33.0)
    many = fetching_seconds(references=1_000, latency_s=0.2, hanging=4, hang_s=33.0)
    none = fetching_seconds(references=100, latency_s=0.2, hanging=0, hang_s=33.0)

    assert (alone, many, none) == (33.0, 83.0, 5.0)


def test_the_ideal_time_of_images_holds_failed_requests_and_the_pause_after_each_burst():
    calm = generating_seconds(requests=100, latency_s=2.0, concurrency=8, bursts=0)
    refused = generating_seconds(requests=108, latency_s=2.0, concurrency=8, bursts=1.5)

    assert (calm, refused) == (25.0, 30.0)
