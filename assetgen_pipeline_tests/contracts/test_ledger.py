"""Attempts, in the words of `ports.Ledger`: the fake, SQLite and PostgreSQL alike."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import pytest

from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.errors import BudgetRefused, ContentTaken, IdempotencyConflict
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline_tests.ledger_helpers import IMAGE, capture, figures, request, reserve
from assetgen_pipeline_tests.processes import DEADLINE_S


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


def test_a_further_attempt_takes_cover_of_its_own_and_leaves_the_others_theirs(ledger):
    hold = reserve(ledger, 300)
    capture(ledger, ledger.intent(hold, request("i1")), 100, image=None)

    capture(ledger, ledger.intent(hold, request("i1", further=True)), 100)

    assert figures(ledger) == (200, 200, 0)
    assert ledger.open_hold("b1").amount == Money(400)


def test_a_further_attempt_that_the_day_does_not_cover_is_refused_though_the_hold_has_some(ledger):
    hold = reserve(ledger, 1000)
    capture(ledger, ledger.intent(hold, request("i1")), 100, image=None)

    with pytest.raises(BudgetRefused):
        ledger.intent(hold, request("i1", further=True))

    capture(ledger, ledger.intent(hold, request("i2")), 100)
    assert figures(ledger) == (800, 200, 0)


def test_only_attempts_that_changed_since_are_read_again(ledger, ledger_clock):
    hold = reserve(ledger)
    first = ledger.intent(hold, request("i1"))
    capture(ledger, ledger.intent(hold, request("i2")), 60)
    ledger_clock.advance(timedelta(seconds=5))
    since = ledger_clock.now()
    capture(ledger, first, 60)
    ledger.intent(hold, request("i3"))

    changed = ledger.attempts("b1", since=since)

    assert sorted(one.item_key for one in changed) == ["i1", "i3"]
    assert len(ledger.attempts("b1")) == 3


def test_an_image_that_the_owner_has_is_not_paid_again_where_the_request_says_once(ledger):
    capture(ledger, ledger.intent(reserve(ledger), request("i1")), 60)
    hold = reserve(ledger, batch="b2")

    with pytest.raises(ContentTaken):
        ledger.intent(hold, request("i1", once=True))

    assert ledger.attempts("b2") == []
    assert ledger.intent(hold, request("i1")).attempt_no == 1


def test_an_image_in_flight_for_another_batch_is_not_paid_again_until_that_failed(ledger):
    first = ledger.intent(reserve(ledger), request("i1"))
    hold = reserve(ledger, batch="b2")

    with pytest.raises(ContentTaken):
        ledger.intent(hold, request("i1", once=True))
    ledger.void(first, code="x", detail="")

    assert ledger.intent(hold, request("i1", once=True)).attempt_no == 1


def test_other_owners_and_other_images_are_no_twins(ledger):
    ledger.intent(reserve(ledger), request("i1"))
    bens = reserve(ledger, batch="b2", owner="ben")

    ledger.intent(bens, request("i1", once=True))
    ledger.intent(bens, request("i2", once=True))

    assert len(ledger.attempts("b2")) == 2


def one_of_many_may_pay(ledger, **asked):
    holds = [reserve(ledger, 100, batch=f"b{n}") for n in range(6)]
    together = threading.Barrier(len(holds))

    def ask(hold):
        together.wait(timeout=DEADLINE_S)
        try:
            ledger.intent(hold, request("i1", once=True, **asked))
        except ContentTaken:
            return False
        return True

    with ThreadPoolExecutor(len(holds)) as pool:
        answers = list(pool.map(ask, holds))
    return answers.count(True) == 1


def test_of_many_batches_that_ask_for_one_image_at_once_one_may_pay(ledger):
    assert one_of_many_may_pay(ledger)


def test_of_many_batches_that_miss_the_same_image_at_once_one_may_pay(ledger):
    capture(ledger, ledger.intent(reserve(ledger, batch="purged"), request("i1")), 60)

    assert one_of_many_may_pay(ledger, gone=1)


def test_an_image_that_is_gone_is_paid_again_once(ledger):
    capture(ledger, ledger.intent(reserve(ledger, batch="purged"), request("i1")), 60)
    first, second = reserve(ledger, 200, batch="b1"), reserve(ledger, 200, batch="b2")
    missed = request("i1", once=True, gone=1)

    again = ledger.intent(first, missed)
    with pytest.raises(ContentTaken):
        ledger.intent(second, missed)
    capture(ledger, again, 60)
    with pytest.raises(ContentTaken):
        ledger.intent(second, missed)

    assert ledger.attempts("b2") == []
    # And should that one be gone as well:
    assert ledger.intent(second, request("i1", once=True, gone=2)).attempt_no == 1
