"""Pricing a batch and holding its money."""

import pytest

from assetgen_pipeline.domain.errors import BudgetRefused, PriceUnknown
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.stages.reserve_budget import (
    price_batch,
    quote_batch,
    row_ceiling,
    rows_that_fit,
)
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.ledger import InMemoryLedger
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, NOW, OWNER, an_image_request
from assetgen_pipeline_tests.stage_bench import (
    CATALOGUE,
    MODEL,
    ONE_IMAGE,
    PROVIDER,
    Bench,
    some_requests,
)

FLAT = CATALOGUE.price(PROVIDER, MODEL)
BY_PARTS = CATALOGUE.price(PROVIDER, "by-parts")


def urls(count):
    return tuple(f"https://a.example/{number}.png" for number in range(count))


def quote(bench, batch, *, model=MODEL):
    return quote_batch(
        batch, catalogue=CATALOGUE, provider=PROVIDER, model=model, ledger=bench.ledger
    )


@pytest.mark.parametrize(
    ("changes", "micros"),
    [
        ({}, 10_500),
        ({"variants": 3}, 31_500),
        ({"reference_urls": urls(2)}, 12_500),
        ({"reference_urls": urls(6)}, 14_500),
        ({"ref_pack_id": "autumn"}, 14_500),
        ({"ref_pack_id": "autumn", "reference_urls": urls(1)}, 14_500),
        ({"prompt": "12345678"}, 10_800),
    ],
    ids=["plain", "variants", "references", "model's limit", "pack", "pack and URL", "prompt"],
)
def test_a_row_is_priced_at_the_most_its_variants_can_cost(changes, micros):
    request = an_image_request(**{"prompt": "12345", **changes})

    assert row_ceiling(request, BY_PARTS) == Money(micros)


def test_a_batch_costs_what_its_rows_cost():
    bench = Bench()
    batch = bench.open(*some_requests(2), an_image_request("S3", row_number=3, variants=3))

    assert price_batch(batch, price=FLAT) == Money(10_000)


def test_a_hold_covers_the_estimate_and_says_whom_it_pays():
    bench = Bench()
    batch = bench.open(*some_requests(3))

    held = bench.reserve(batch)

    assert (held.estimate, held.hold.amount) == (Money(6_000), Money(6_000))
    assert (held.provider, held.model, held.lane) == (PROVIDER, MODEL, "stable")
    assert held.price_version == CATALOGUE.version
    assert bench.ledger.day(OWNER).held == Money(6_000)


def test_a_batch_that_fits_to_the_micro_is_held():
    bench = Bench(limit="0.006")

    bench.reserve(bench.open(*some_requests(3)))

    assert bench.ledger.day(OWNER).headroom == ZERO


def test_a_batch_over_the_limit_is_refused_with_the_rows_that_fit():
    bench = Bench(limit="0.005999")
    batch = bench.open(*some_requests(3))

    with pytest.raises(BudgetRefused) as refused:
        bench.reserve(batch)

    assert refused.value.rows_that_fit == 2
    assert refused.value.estimate == Money(6_000)
    assert refused.value.headroom == Money(5_999)
    assert bench.ledger.day(OWNER).held == ZERO
    assert bench.ledger.open_hold(BATCH_ID) is None


@pytest.mark.parametrize(
    ("headroom", "rows"), [(0, 0), (1_999, 0), (2_000, 1), (5_999, 1), (6_000, 2), (60_000, 3)]
)
def test_rows_are_counted_from_the_top_until_one_does_not_fit(headroom, rows):
    left_to_pay = [ONE_IMAGE, ONE_IMAGE * 2, ONE_IMAGE]

    assert rows_that_fit(left_to_pay, Money(headroom)) == rows


async def test_rows_that_are_delivered_fit_whatever_is_left():
    bench = Bench(limit="0.004")
    batch = bench.open(*some_requests(4))
    await bench.shard_of(bench.open(*some_requests(2)), count=2)
    bench.ledger.settle(BATCH_ID)

    with pytest.raises(BudgetRefused) as refused:
        bench.reserve(bench.open(*batch.requests), run_id="run-2")

    assert refused.value.rows_that_fit == 2


async def test_a_retry_reserves_only_what_is_not_delivered():
    bench = Bench()
    batch = bench.open(*some_requests(2, variants=2))
    failure = ProviderError("no", kind=ErrorKind.INVALID_REQUEST)
    await bench.generate(batch, ScriptedProvider({"S1/2": [failure]}))
    bench.ledger.settle(BATCH_ID)

    held = bench.reserve(batch, run_id="run-2")

    assert held.hold.amount == ONE_IMAGE
    assert held.estimate == ONE_IMAGE * 4


async def test_a_retry_of_a_wholly_delivered_batch_holds_nothing():
    bench = Bench(limit="0.002")
    batch = bench.open()
    await bench.generate(batch)
    bench.ledger.settle(BATCH_ID)

    held = bench.reserve(batch, run_id="run-2")

    assert held.hold.amount == ZERO


def test_a_second_run_adopts_the_open_hold_and_holds_nothing_twice():
    bench = Bench(limit="0.002")
    batch = bench.open()
    first = bench.reserve(batch)

    second = bench.reserve(batch, run_id="run-2")

    assert second.hold.hold_id == first.hold.hold_id
    assert second.hold.fence == first.hold.fence + 1
    assert bench.ledger.day(OWNER).held == ONE_IMAGE


def test_a_model_without_a_price_holds_nothing():
    bench = Bench()
    batch = bench.open()

    with pytest.raises(PriceUnknown):
        bench.reserve(batch, model="unlisted")

    assert bench.ledger.open_holds() == []


def test_a_quote_shows_price_and_headroom_and_holds_nothing():
    bench = Bench(limit="0.005")
    bench.reserve(bench.open(batch_id="studio.other.0123abcd"))
    batch = bench.open(*some_requests(2), mode="dry_run")

    quoted = quote(bench, batch)

    assert (quoted.estimate, quoted.headroom) == (Money(4_000), Money(3_000))
    assert quoted.limit == Money(5_000)
    assert quoted.budget_date.isoformat() == "2026-03-01"
    assert quoted.resets_at.isoformat() == "2026-03-02T00:00:00+00:00"
    assert quoted.price_version == CATALOGUE.version
    assert bench.ledger.open_hold(BATCH_ID) is None
    assert bench.ledger.day(OWNER).held == ONE_IMAGE


def test_a_quote_shows_what_the_deployment_has_left_where_that_is_less():
    clock = ManualClock(NOW)
    ledger = InMemoryLedger(
        clock=clock, default_limit=Money.from_usd("10"), project_limit=Money(3_000)
    )
    bench = Bench(ledger=ledger)
    bench.reserve(bench.open(batch_id="somebody.other.0123abcd", owner="somebody"))

    quoted = quote(bench, bench.open(*some_requests(2), mode="dry_run"))

    assert (quoted.headroom, quoted.limit) == (Money(1_000), Money(3_000))


def test_a_quote_for_a_model_without_a_price_is_refused():
    bench = Bench()

    with pytest.raises(PriceUnknown):
        quote(bench, bench.open(), model="unlisted")
