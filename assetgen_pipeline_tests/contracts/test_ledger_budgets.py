"""Holds and days, in the words of `ports.Ledger`: the fake, SQLite and PostgreSQL alike."""

from datetime import UTC, date, datetime, timedelta

import pytest

from assetgen_pipeline.domain.budget import AttemptState, OwnedImage
from assetgen_pipeline.domain.errors import (
    BudgetRefused,
    HoldNotOpen,
    IdempotencyConflict,
    LedgerError,
)
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.ledger import InMemoryLedger
from assetgen_pipeline_tests.ledger_helpers import (
    IMAGE,
    LIMIT,
    broken,
    capture,
    figures,
    request,
    reserve,
)


def test_a_day_without_any_reservation_shows_the_default_limit(ledger):
    day = ledger.day("ann")
    assert (day.limit, day.held, day.headroom) == (Money(LIMIT), ZERO, Money(LIMIT))
    assert day.resets_at == datetime(2026, 1, 6, tzinfo=UTC)


def test_reserving_holds_the_amount(ledger):
    hold = reserve(ledger)
    assert (hold.amount, hold.fence, hold.budget_date) == (Money(300), 1, date(2026, 1, 5))
    assert ledger.open_hold("b1") == hold
    assert ledger.open_holds() == [hold]
    assert figures(ledger) == (300, 0, 0)


def test_the_limit_can_be_reserved_to_the_micro_and_no_further(ledger):
    reserve(ledger, LIMIT)
    with pytest.raises(BudgetRefused) as refused:
        reserve(ledger, 1, batch="b2")
    assert (refused.value.headroom, refused.value.limit, refused.value.scope) == (
        ZERO,
        Money(LIMIT),
        "owner:ann",
    )
    assert refused.value.estimate == Money(1)
    assert refused.value.resets_at == datetime(2026, 1, 6, tzinfo=UTC)
    assert ledger.open_hold("b2") is None
    assert reserve(ledger, LIMIT, batch="b3", owner="bob").amount == Money(LIMIT)


def test_a_refused_batch_can_be_reserved_later(ledger, ledger_clock):
    reserve(ledger, LIMIT)
    with pytest.raises(BudgetRefused):
        reserve(ledger, 1, batch="b2")
    ledger_clock.advance(timedelta(days=1))
    assert reserve(ledger, 1, batch="b2").budget_date == date(2026, 1, 6)


def test_nothing_can_be_reserved_as_well(ledger):
    hold = reserve(ledger, 0)
    token = ledger.intent(hold, request(ceiling=0))
    capture(ledger, token, 0, basis="flat")
    assert ledger.settle("b1") == ZERO
    assert figures(ledger) == (0, 0, 0)


def test_the_deployment_has_a_limit_of_its_own(build_ledger, ledger_clock):
    ledger = build_ledger(ledger_clock, project=500)
    reserve(ledger, 400)
    with pytest.raises(BudgetRefused) as refused:
        reserve(ledger, 101, batch="b2", owner="bob")
    assert (refused.value.scope, refused.value.headroom) == ("project", Money(100))
    assert figures(ledger, "bob") == (0, 0, 0)
    reserve(ledger, 100, batch="b2", owner="bob")
    assert broken(ledger) == []


def test_an_attempt_without_cover_extends_the_hold_under_the_limit(ledger):
    hold = reserve(ledger, 50)
    capture(ledger, ledger.intent(hold, request(ceiling=80)), 80)
    assert ledger.open_hold("b1").amount == Money(80)
    capture(ledger, ledger.intent(hold, request(ceiling=900)), 900)
    with pytest.raises(BudgetRefused) as refused:
        ledger.intent(hold, request(ceiling=100))
    assert (refused.value.estimate, refused.value.headroom) == (Money(100), Money(20))
    assert len(ledger.attempts("b1")) == 2
    assert figures(ledger) == (0, 980, 0)


def test_taking_over_fences_the_first_run_off_and_assumes_its_calls(ledger):
    first = reserve(ledger)
    token = ledger.intent(first, request())
    second = reserve(ledger, 250, run="run-2", price="p2")
    assert (second.hold_id, second.fence, second.amount) == (first.hold_id, 2, Money(350))
    with pytest.raises(HoldNotOpen):
        ledger.intent(first, request("i2"))
    with pytest.raises(HoldNotOpen):
        ledger.reuse(first, request("i2"), IMAGE)
    assert ledger.attempts("b1")[0].state is AttemptState.ASSUMED
    capture(ledger, token, 70)
    again = ledger.intent(second, request(run_id="run-2"))
    assert again.attempt_no == 2
    assert [one.price_version for one in ledger.attempts("b1")] == ["p1", "p2"]
    assert figures(ledger) == (250, 70, 0)


def test_a_takeover_that_does_not_fit_leaves_the_hold_alone(ledger):
    hold = reserve(ledger)
    token = ledger.intent(hold, request())
    with pytest.raises(BudgetRefused):
        reserve(ledger, 1000, run="run-2")
    assert ledger.open_hold("b1") == hold
    assert ledger.attempts("b1")[0].state is AttemptState.INTENT
    capture(ledger, token, 10)


def test_an_open_hold_is_not_given_to_another_owner(ledger):
    reserve(ledger)
    with pytest.raises(IdempotencyConflict):
        reserve(ledger, owner="bob")


def test_a_settled_batch_can_reserve_again_and_counts_on(ledger):
    hold = reserve(ledger)
    capture(ledger, ledger.intent(hold, request()), 10)
    ledger.settle("b1")
    with pytest.raises(HoldNotOpen):
        ledger.intent(hold, request())
    again = reserve(ledger, 100)
    assert again.hold_id != hold.hold_id
    assert ledger.intent(again, request()).attempt_no == 2


def test_stored_images_are_those_the_owner_paid_for(ledger):
    hold = reserve(ledger)
    capture(ledger, ledger.intent(hold, request()), 10)
    capture(ledger, ledger.intent(hold, request("i2")), 10, image=None)
    ledger.intent(hold, request("i3"))
    names = [f"image-i{number}" for number in range(1200)]
    assert ledger.stored_images("ann", names) == {"image-i1": OwnedImage(image=IMAGE, served=1)}
    assert ledger.stored_images("bob", names) == {}
    assert ledger.stored_images("ann", []) == {}


def test_a_stored_image_is_the_newest_and_tells_how_many_attempts_had_one(ledger, ledger_clock):
    newer = IMAGE.model_copy(update={"object_name": "images/b.png"})
    hold = reserve(ledger)
    capture(ledger, ledger.intent(hold, request()), 10)
    ledger_clock.advance(timedelta(seconds=1))
    capture(ledger, ledger.intent(hold, request("i2", image_id="image-i1")), 10, image=newer)
    ledger_clock.advance(timedelta(seconds=1))
    ledger.reuse(hold, request("i3", image_id="image-i1"), newer)
    assert ledger.stored_images("ann", ["image-i1"]) == {
        "image-i1": OwnedImage(image=newer, served=3)
    }


def test_a_raised_limit_counts_at_once(ledger):
    reserve(ledger, LIMIT)
    assert ledger.set_limit("ann", Money(1500), set_by="op").headroom == Money(500)
    reserve(ledger, 500, batch="b2")
    assert ledger.day("bob").limit == Money(LIMIT)


def test_a_lowered_limit_stops_at_what_today_holds_and_spent(ledger, ledger_clock):
    capture(ledger, ledger.intent(reserve(ledger), request()), 60)
    day = ledger.set_limit("ann", Money(100), set_by="op")
    assert (day.limit, day.headroom) == (Money(300), ZERO)
    ledger_clock.advance(timedelta(days=1))
    assert ledger.day("ann").limit == Money(100)


def test_a_refusal_on_an_earlier_day_leaves_that_days_limit_as_it_was(ledger, ledger_clock):
    hold = reserve(ledger, 0)
    ledger_clock.advance(timedelta(days=1))
    ledger.set_limit("ann", ZERO, set_by="op")
    with pytest.raises(BudgetRefused):
        reserve(ledger, 1)

    assert ledger.intent(hold, request(ceiling=1)).ceiling == Money(1)


def test_a_changed_default_counts_for_owners_without_a_limit_of_their_own(
    build_ledger, ledger_clock
):
    before = build_ledger(ledger_clock)
    before.set_limit("bob", Money(10), set_by="op")
    reserve(before, LIMIT)
    if isinstance(before, InMemoryLedger):
        return
    after = build_ledger(ledger_clock, limit=2000)
    reserve(after, 1000, batch="b2")
    with pytest.raises(BudgetRefused):
        reserve(after, 11, batch="b3", owner="bob")


def test_a_batch_belongs_to_the_day_it_was_reserved_on(build_ledger):
    ledger_clock = ManualClock(datetime(2026, 1, 5, 22, 59, 59, 999999, tzinfo=UTC))
    ledger = build_ledger(ledger_clock, zone="Europe/Berlin")
    hold = reserve(ledger, 400)
    ledger_clock.advance(timedelta(microseconds=1))
    token = ledger.intent(hold, request(ceiling=500))
    capture(ledger, token, 450)
    assert figures(ledger) == (0, 0, 0)
    assert ledger.settle("b1") == Money(50)
    [one] = ledger.attempts("b1")
    assert (one.budget_date, one.spend_date) == (date(2026, 1, 5), date(2026, 1, 6))
    ledger_clock.set(datetime(2026, 1, 5, 20, tzinfo=UTC))
    assert figures(ledger) == (0, 450, 0)
    assert broken(ledger) == []


def test_an_attempt_that_no_ledger_made_is_refused(ledger, build_ledger, ledger_clock):
    reserve(ledger)
    token = InMemoryLedger(clock=ledger_clock, default_limit=Money(1000))
    other = token.intent(reserve(token, batch="zz"), request("zz"))
    with pytest.raises(LedgerError):
        capture(ledger, other, 1)


def test_image_users_are_the_batches_that_have_the_image(ledger):
    first, second = reserve(ledger), reserve(ledger, batch="b2")
    capture(ledger, ledger.intent(first, request()), 10)
    capture(ledger, ledger.intent(first, request("i2")), 10, image=None)
    ledger.reuse(second, request(), IMAGE)
    names = [f"image-i{number}" for number in range(1200)]
    assert ledger.image_users("ann", names) == {"image-i1": {"b1", "b2"}}
    assert ledger.image_users("bob", names) == {}
    assert ledger.image_users("ann", []) == {}
