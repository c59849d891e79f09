"""Recovery and overviews, in the words of `ports.Ledger`: the fake, SQLite and PostgreSQL alike."""

from datetime import date, timedelta

import pytest

from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.errors import HoldNotOpen, IdempotencyConflict, LedgerError
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline_tests.ledger_helpers import IMAGE, capture, figures, request, reserve


def test_an_expired_hold_books_calls_in_flight_at_their_ceiling_and_frees_the_rest(ledger):
    hold = reserve(ledger)
    capture(ledger, ledger.intent(hold, request()), 60)
    ledger.intent(hold, request("i2"))

    assert ledger.expire(hold) == Money(140)

    assert figures(ledger) == (0, 160, 0)
    assert ledger.open_holds() == []
    assert [one.state for one in ledger.attempts("b1")] == [
        AttemptState.CAPTURED,
        AttemptState.ASSUMED,
    ]


def test_expiring_again_and_settling_afterwards_change_nothing(ledger):
    hold = reserve(ledger)
    ledger.expire(hold)

    assert ledger.expire(hold) is None
    assert ledger.settle("b1") == ZERO
    assert figures(ledger) == (0, 0, 0)


def test_a_hold_that_another_run_took_over_does_not_expire(ledger):
    read_before = reserve(ledger)
    kept = reserve(ledger, run="run-2")

    assert ledger.expire(read_before) is None

    assert ledger.open_hold("b1") == kept
    ledger.intent(kept, request())


def test_a_zombie_can_send_nothing_and_its_late_answer_is_still_booked(ledger):
    hold = reserve(ledger)
    token = ledger.intent(hold, request())
    ledger.expire(hold)

    with pytest.raises(HoldNotOpen):
        ledger.intent(hold, request("i2"))
    capture(ledger, token, 70)

    assert figures(ledger) == (0, 70, 0)
    assert ledger.assumed_attempts() == []


def test_many_holds_expire_together_each_by_its_own_fence(ledger):
    holds = [
        reserve(ledger, 10, batch=f"{owner}-{number}", owner=owner)
        for number in range(40)
        for owner in ("ann", "bob")
    ]
    for hold in holds[:6]:
        ledger.intent(hold, request(ceiling=7))
    taken_over = reserve(ledger, 10, batch="ann-3", owner="ann", run="run-2")
    ledger.settle("bob-5")

    released = dict(zip([hold.batch_id for hold in holds], ledger.expire_all(holds), strict=True))

    expected = dict.fromkeys(released, Money(10)) | {hold.batch_id: Money(3) for hold in holds[:6]}
    assert released == expected | {"ann-3": None, "bob-5": None}
    assert ledger.open_holds() == [taken_over]
    assert figures(ledger, "ann") == (10, 21, 0)
    assert figures(ledger, "bob") == (0, 21, 0)
    assert ledger.expire_all(holds) == [None] * 80
    assert ledger.expire_all([]) == []


def test_holds_of_several_days_expire_together(ledger, ledger_clock):
    first = reserve(ledger, 10)
    ledger_clock.advance(timedelta(days=1))
    second = reserve(ledger, 20, batch="b2")

    assert ledger.expire_all([second, first, second]) == [Money(20), Money(10), None]

    assert figures(ledger) == (0, 0, 0)


def test_what_is_released_is_said_of_the_fence_that_held_it(ledger):
    stale, taken_over = reserve(ledger, 10), reserve(ledger, 10, run="run-2")

    assert ledger.expire_all([stale, taken_over]) == [None, Money(10)]


def test_an_expired_batch_can_reserve_again(ledger):
    ledger.expire(reserve(ledger))

    again = reserve(ledger)

    assert ledger.intent(again, request()).attempt_no == 1


def test_a_hold_names_its_run_its_process_and_when_it_was_opened(ledger, ledger_clock):
    made = ledger.reserve(
        owner="ann", batch_id="b1", run_id="r1", amount=Money(1), price_version="p", worker="w1"
    )
    opened = ledger_clock.now()
    assert (made.run_id, made.worker, made.opened_at) == ("r1", "w1", opened)
    ledger_clock.advance(timedelta(minutes=1))

    ledger.reserve(
        owner="ann", batch_id="b1", run_id="r2", amount=Money(1), price_version="p", worker="w2"
    )

    [hold] = ledger.open_holds()
    assert (hold.run_id, hold.worker, hold.opened_at) == ("r2", "w2", opened)


@pytest.mark.parametrize(
    ("cost", "state", "spent"), [(30, "captured", 30), (140, "captured", 140), (None, "voided", 0)]
)
def test_an_unknown_bill_is_reconciled_once(ledger, cost, state, spent):
    ledger.intent(reserve(ledger), request())
    ledger.settle("b1")
    [assumed] = ledger.assumed_attempts()
    actual = None if cost is None else Money(cost)

    ledger.reconcile(assumed.attempt_id, actual)
    ledger.reconcile(assumed.attempt_id, actual)

    [one] = ledger.attempts("b1")
    assert (one.state.value, one.cost, one.code) == (state, actual, "internal")
    assert figures(ledger)[1] == spent
    assert ledger.assumed_attempts() == []
    with pytest.raises(IdempotencyConflict):
        ledger.reconcile(assumed.attempt_id, Money(31))


def test_only_unknown_bills_are_reconciled(ledger):
    hold = reserve(ledger)
    open_one = ledger.intent(hold, request())
    known = ledger.intent(hold, request("i2"))
    capture(ledger, known, 10)

    with pytest.raises(LedgerError, match="in flight"):
        ledger.reconcile(open_one.attempt_id, None)
    with pytest.raises(IdempotencyConflict):
        ledger.reconcile(known.attempt_id, Money(11))
    with pytest.raises(LedgerError):
        ledger.reconcile("unknown", None)


def test_every_owner_with_a_limit_or_a_reservation_today_is_listed(ledger, ledger_clock):
    reserve(ledger, 300)
    ledger.set_limit("zoe", Money(7), set_by="op")

    assert [(day.owner, day.limit.micros, day.held.micros) for day in ledger.days()] == [
        ("ann", 1000, 300),
        ("zoe", 7, 0),
    ]

    ledger_clock.advance(timedelta(days=1))
    assert [(day.owner, day.budget_date) for day in ledger.days()] == [("zoe", date(2026, 1, 6))]


def test_the_deployment_has_a_day_where_it_has_a_limit(build_ledger, ledger_clock, ledger):
    assert ledger.project_day() is None
    capped = build_ledger(ledger_clock, project=500)
    assert capped.project_day().headroom == Money(500)

    hold = reserve(capped, 400, owner="bob", batch="b9")
    capped.assume(capped.intent(hold, request()), code="x", detail="")

    day = capped.project_day()
    assert (day.owner, day.held, day.settled, day.assumed) == (
        "",
        Money(300),
        Money(100),
        Money(100),
    )


def test_a_limit_that_was_lowered_shows_what_can_really_be_reserved(ledger):
    reserve(ledger, 300)
    ledger.set_limit("ann", Money(100), set_by="op")
    assert ledger.day("ann").limit == Money(300)

    ledger.settle("b1")

    assert (ledger.day("ann").limit, ledger.day("ann").headroom) == (Money(100), Money(100))


def test_booked_images_are_those_of_captured_attempts(ledger):
    hold = reserve(ledger)
    first = ledger.intent(hold, request())
    capture(ledger, first, 10)
    capture(ledger, ledger.intent(hold, request("i2")), 10, image=None)
    ledger.reuse(hold, request("i3"), IMAGE)
    other = reserve(ledger, batch="b2")
    capture(ledger, ledger.intent(other, request("i4")), 10)

    of_batch = ledger.booked_images(batch_id="b1")
    assert len(of_batch) == 2
    assert of_batch[0].attempt_id == first.attempt_id
    assert {one.object_name for one in of_batch} == {IMAGE.object_name}
    assert len(ledger.booked_images()) == 3
    assert ledger.booked_images(batch_id="nobody") == []


def test_the_states_of_attempts_are_told_and_unknown_ones_left_out(ledger):
    hold = reserve(ledger)
    first, second = ledger.intent(hold, request()), ledger.intent(hold, request("i2"))
    ledger.void(second, code="x", detail="")

    names = [first.attempt_id, second.attempt_id, *(f"nobody-{n}" for n in range(1200))]
    assert ledger.attempt_states(names) == {
        first.attempt_id: AttemptState.INTENT,
        second.attempt_id: AttemptState.VOIDED,
    }
