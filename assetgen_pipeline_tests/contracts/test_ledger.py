"""Attempts, in the words of `ports.Ledger`: the fake, SQLite and PostgreSQL alike."""

from datetime import date, timedelta

import pytest

from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.errors import BudgetRefused, IdempotencyConflict
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline_tests.ledger_helpers import IMAGE, capture, figures, request, reserve


def test_a_capture_draws_and_settling_releases_the_rest(ledger):
    hold = reserve(ledger)
    capture(ledger, ledger.intent(hold, request()), 60)
    assert figures(ledger) == (240, 60, 0)
    assert ledger.settle("b1") == Money(240)
    assert figures(ledger) == (0, 60, 0)
    assert ledger.open_hold("b1") is None
    assert ledger.settle("b1") == ZERO


def test_an_attempt_keeps_everything_the_results_need(ledger, ledger_clock):
    hold = reserve(ledger)
    token = ledger.intent(hold, request(row_number=7, variant=2, lane="candidate"))
    ledger_clock.advance(timedelta(seconds=3))
    ledger.capture(
        token,
        cost=Money(60),
        cost_basis="flat",
        image=IMAGE,
        code="",
        detail="d",
        latency_ms=3000,
        request_id="r",
    )
    [one] = ledger.attempts("b1")
    assert (one.attempt_id, one.attempt_no, one.state) == (
        token.attempt_id,
        1,
        AttemptState.CAPTURED,
    )
    assert (one.row_number, one.variant, one.lane, one.price_version) == (7, 2, "candidate", "p1")
    assert (one.cost, one.cost_basis, one.image, one.latency_ms, one.detail) == (
        Money(60),
        "flat",
        IMAGE,
        3000,
        "d",
    )
    assert (one.spend_date, one.budget_date) == (date(2026, 1, 5), date(2026, 1, 5))
    assert one.resolved_at - one.intent_at == timedelta(seconds=3)


def test_the_same_capture_again_changes_nothing_and_another_is_refused(ledger):
    token = ledger.intent(reserve(ledger), request())
    capture(ledger, token, 60)
    capture(ledger, token, 60)
    with pytest.raises(IdempotencyConflict):
        capture(ledger, token, 61)
    with pytest.raises(IdempotencyConflict):
        ledger.void(token, code="x", detail="")
    with pytest.raises(IdempotencyConflict):
        ledger.assume(token, code="x", detail="")
    assert figures(ledger) == (240, 60, 0)


def test_a_void_gives_the_cover_back_to_the_hold(ledger):
    hold = reserve(ledger, 100)
    token = ledger.intent(hold, request())
    ledger.void(token, code="provider-unavailable", detail="refused", latency_ms=5)
    ledger.void(token, code="provider-unavailable", detail="refused")
    with pytest.raises(IdempotencyConflict):
        capture(ledger, token, 1)
    second = ledger.intent(hold, request())
    assert second.attempt_no == 2
    capture(ledger, second, 100)
    first, _ = ledger.attempts("b1")
    assert (first.state, first.cost, first.code, first.latency_ms) == (
        AttemptState.VOIDED,
        None,
        "provider-unavailable",
        5,
    )
    assert figures(ledger) == (0, 100, 0)


def test_an_unknown_outcome_counts_at_its_ceiling(ledger):
    token = ledger.intent(reserve(ledger), request())
    ledger.assume(token, code="provider-unavailable", detail="time-out")
    ledger.assume(token, code="provider-unavailable", detail="time-out")
    assert figures(ledger) == (200, 100, 0)
    assert ledger.day("ann").assumed == Money(100)
    with pytest.raises(IdempotencyConflict):
        ledger.void(token, code="x", detail="")


@pytest.mark.parametrize(
    ("cost", "expected"), [(30, (0, 30, 0)), (100, (0, 100, 0)), (130, (0, 130, 30))]
)
def test_a_late_answer_corrects_what_was_assumed(ledger, cost, expected):
    token = ledger.intent(reserve(ledger), request())
    ledger.settle("b1")
    [assumed] = ledger.attempts("b1")
    assert (assumed.state, assumed.cost) == (AttemptState.ASSUMED, Money(100))
    ledger.capture(assumed, cost=Money(cost), cost_basis="usage", image=IMAGE)
    capture(ledger, token, cost)
    assert figures(ledger) == expected
    assert ledger.day("ann").assumed == ZERO


def test_a_late_answer_on_an_open_hold_is_covered_by_it(ledger):
    token = ledger.intent(reserve(ledger), request())
    ledger.assume(token, code="x", detail="")
    capture(ledger, token, 130)
    assert figures(ledger) == (170, 130, 0)
    assert ledger.settle("b1") == Money(170)


def test_a_bill_above_every_cover_is_recorded_and_uses_headroom_up(ledger):
    hold = reserve(ledger, 900)
    capture(ledger, ledger.intent(hold, request()), 1100)
    assert figures(ledger) == (0, 1100, 200)
    assert ledger.day("ann").headroom == ZERO
    with pytest.raises(BudgetRefused):
        reserve(ledger, 1, batch="b2")
    with pytest.raises(BudgetRefused):
        ledger.intent(hold, request("i2", 1))
    # A new limit has to make up for the overrun first.
    assert ledger.set_limit("ann", Money(1150), set_by="op").headroom == Money(50)
    assert reserve(ledger, 50, batch="b2").amount == Money(50)


def test_one_item_has_one_attempt_in_flight(ledger):
    hold = reserve(ledger)
    ledger.intent(hold, request())
    with pytest.raises(IdempotencyConflict):
        ledger.intent(hold, request())
    ledger.intent(hold, request("i2"))
    assert len(ledger.attempts("b1")) == 2


def test_reused_images_cost_nothing_and_are_recorded_once(ledger):
    hold = reserve(ledger)
    ledger.reuse(hold, request(), IMAGE)
    ledger.reuse(hold, request(), IMAGE)
    [one] = ledger.attempts("b1")
    assert (one.state, one.cost, one.cost_basis, one.ceiling) == (
        AttemptState.CAPTURED,
        ZERO,
        "reused",
        ZERO,
    )
    assert figures(ledger) == (300, 0, 0)
