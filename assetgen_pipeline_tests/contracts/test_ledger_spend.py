"""A budget day in sums, in the words of `ports.Ledger`: the fake, SQLite and PostgreSQL alike."""

from datetime import UTC, date, datetime, timedelta

import pytest

from assetgen_pipeline.domain.day_spend import GroupSpend
from assetgen_pipeline.domain.errors import BudgetRefused
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline_tests.ledger_helpers import IMAGE, capture, request, reserve

DAY = date(2026, 1, 5)


def entries(ledger, day=DAY):
    return ledger.day_entries(day).get(day, 0)


def test_a_day_is_summed_by_owner_provider_and_model(ledger):
    first = reserve(ledger, 500)
    capture(ledger, ledger.intent(first, request("i1")), 60)
    capture(ledger, ledger.intent(first, request("i2", model="other")), 7)
    ledger.assume(ledger.intent(first, request("i3")), code="x", detail="")
    capture(ledger, ledger.intent(first, request("i3")), 40)
    ledger.void(ledger.intent(first, request("i4")), code="x", detail="")
    second = reserve(ledger, batch="b2", owner="ben")
    ledger.reuse(second, request("i1"), IMAGE)
    ledger.settle("b1")

    spend = ledger.day_spend(DAY)

    limit = Money(1000)
    ann = {"owner": "ann", "provider": "local", "limit": limit}
    assert spend.groups == (
        GroupSpend(**ann, model="other", images=1, delivered=1, attempts=1, settled=Money(7)),
        GroupSpend(
            **ann,
            model="storyboard",
            images=3,
            delivered=2,
            attempts=4,
            settled=Money(200),
            assumed=Money(100),
        ),
        GroupSpend(
            owner="ben", provider="local", model="storyboard", limit=limit, images=1, delivered=1
        ),
    )
    assert spend.settled == Money(207)
    assert spend.assumed == Money(100)
    assert spend.batches == {"b1": Money(207)}
    assert spend.open_batches == {"b2"}
    assert not spend.is_over


def test_a_days_sums_are_what_its_owners_settled(ledger):
    for batch, owner in (("b1", "ann"), ("b2", "ben"), ("b3", "ann")):
        hold = reserve(ledger, 100, batch=batch, owner=owner)
        capture(ledger, ledger.intent(hold, request()), 31)

    spend = ledger.day_spend(DAY)

    settled = {owner: ledger.day(owner).settled for owner in ("ann", "ben")}
    assert {group.owner: group.settled for group in spend.groups} == settled


def test_attempts_count_to_the_day_of_their_hold_also_after_midnight(ledger, ledger_clock):
    hold = reserve(ledger)
    capture(ledger, ledger.intent(hold, request("i1")), 60)
    ledger_clock.advance(timedelta(days=1))
    capture(ledger, ledger.intent(hold, request("i2")), 40)
    ledger.settle("b1")

    assert ledger.day_spend(DAY).settled == Money(100)
    assert ledger.day_spend(DAY).is_final
    assert ledger.day_spend(DAY + timedelta(days=1)).groups == ()


def test_a_batch_that_runs_again_on_a_later_day_is_closed_on_the_first(ledger, ledger_clock):
    capture(ledger, ledger.intent(reserve(ledger), request()), 60)
    ledger.settle("b1")
    ledger_clock.advance(timedelta(days=1))
    reserve(ledger)

    first, second = (ledger.day_spend(DAY + timedelta(days=n)) for n in (0, 1))

    assert (first.batches, first.open_batches) == ({"b1": Money(60)}, frozenset())
    assert (second.batches, second.open_batches) == ({}, {"b1"})


def test_a_refused_batch_counts_once_with_the_most_it_asked_for(ledger):
    for batch, amount in (("b1", 1200), ("b1", 1500), ("b2", 1001)):
        with pytest.raises(BudgetRefused):
            reserve(ledger, amount, batch=batch)

    assert ledger.day_spend(DAY).groups == (
        GroupSpend(owner="ann", limit=Money(1000), refused_batches=2, refused=Money(2501)),
    )


def test_everything_that_happens_to_a_day_adds_entries(ledger):
    seen = [entries(ledger)]

    def happened():
        seen.append(entries(ledger))

    hold = reserve(ledger)
    happened()
    capture(ledger, ledger.intent(hold, request("i1")), 60)
    happened()
    token = ledger.intent(hold, request("i2"))
    ledger.assume(token, code="x", detail="")
    happened()
    with pytest.raises(BudgetRefused):
        reserve(ledger, 5000, batch="b2")
    happened()
    ledger.settle("b1")
    happened()
    unknown = next(one for one in ledger.attempts("b1") if one.code == "x")
    ledger.capture(unknown, cost=Money(1), cost_basis="usage", image=None)
    happened()

    assert seen == sorted(set(seen))
    assert ledger.day_spend(DAY).entries == seen[-1]
    assert ledger.day_entries(DAY + timedelta(days=1)) == {}


def test_a_day_that_nobody_used_is_empty_and_the_past_is_over(ledger):
    past = ledger.day_spend(DAY - timedelta(days=9))

    assert (past.groups, past.batches, past.entries) == ((), {}, 0)
    assert past.is_final
    assert not ledger.day_spend(DAY).is_over


def test_the_budget_day_of_an_instant_is_the_local_date(build_ledger, ledger_clock):
    ledger = build_ledger(ledger_clock, zone="Asia/Tokyo")

    assert ledger.budget_date(datetime(2026, 1, 5, 14, 59, 59, tzinfo=UTC)) == DAY
    assert ledger.budget_date(datetime(2026, 1, 5, 15, tzinfo=UTC)) == date(2026, 1, 6)


def test_lanes_are_compared_by_images_that_are_at_an_end(ledger, ledger_clock):
    hold = reserve(ledger, 900)
    capture(ledger, ledger.intent(hold, request("before", lane="candidate")), 60)
    ledger_clock.advance(timedelta(hours=1))
    since = ledger_clock.now()
    new = {"lane": "candidate", "model": "new"}
    ledger.assume(ledger.intent(hold, request("i1", **new)), code="x", detail="", latency_ms=9)
    ledger.capture(
        ledger.intent(hold, request("i1", **new)),
        cost=Money(40),
        cost_basis="usage",
        image=IMAGE,
        latency_ms=11,
    )
    ledger.void(ledger.intent(hold, request("i2", **new)), code="x", detail="", latency_ms=5)
    ledger.intent(hold, request("i3", **new))
    ledger.reuse(hold, request("i4", lane="stable"), IMAGE)
    for item, latency_ms in (("i5", 7), ("i6", 900), ("i7", 7)):
        token = ledger.intent(hold, request(item, lane="stable"))
        ledger.capture(
            token, cost=Money(10), cost_basis="usage", image=IMAGE, latency_ms=latency_ms
        )

    candidate, stable = ledger.lane_figures(since)

    assert (candidate.lane, candidate.model) == ("candidate", "new")
    assert (candidate.images, candidate.delivered) == (2, 1)
    assert (candidate.cost, candidate.latencies) == (Money(140), ((20, 1),))
    assert (stable.lane, stable.images, stable.delivered, stable.cost) == (
        "stable",
        3,
        3,
        Money(30),
    )
    assert stable.latencies == ((7, 2), (900, 1))


def test_refusals_that_add_up_to_more_than_a_million_dollars_are_summed(ledger):
    dear = Money.from_usd("6000")
    for n in range(200):
        with pytest.raises(BudgetRefused):
            reserve(ledger, dear.micros, batch=f"b{n}")

    [group] = ledger.day_spend(DAY).groups

    assert (group.refused_batches, group.refused) == (200, Money(1_200_000_000_000))
