"""The running count of a batch is what its outcomes say, however the news arrives."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.domain.outcome import batch_outcome
from assetgen_pipeline.domain.tally import BatchTally
from assetgen_pipeline_tests.builders import (
    NOW,
    a_batch,
    a_decision,
    a_failed_attempt,
    an_attempt,
    an_image_request,
    row_references,
)

BATCH = a_batch(*(an_image_request(f"S{n}", row_number=n, variants=2) for n in range(1, 4)))
DECISION = a_decision(*(row_references(request.scene_id) for request in BATCH.requests))


def at(seconds):
    return {"intent_at": NOW + timedelta(seconds=seconds)}


def an_intent(scene_id, variant, **changes):
    defaults = {"state": AttemptState.INTENT, "image": None, "cost": None, "resolved_at": None}
    return an_attempt(scene_id, variant, **{**defaults, **changes})


@st.composite
def attempts(draw):
    kind = draw(st.sampled_from(["delivered", "blocked", "failed", "assumed", "intent"]))
    number, second = draw(st.integers(1, 3)), draw(st.integers(-5, 5))
    where = (f"S{draw(st.integers(1, 3))}", draw(st.integers(1, 2)))
    changes = {"attempt_no": number, **at(second)}
    if kind == "delivered":
        return an_attempt(*where, **changes)
    if kind == "intent":
        return an_intent(*where, **changes)
    if kind == "assumed":
        booked = {"state": AttemptState.ASSUMED, "cost": Money(2_000), "cost_basis": "assumed"}
        return a_failed_attempt(*where, code="internal", **booked, **changes)
    code = "provider-blocked" if kind == "blocked" else "provider-rejected"
    return a_failed_attempt(*where, code=code, **changes)


@given(st.lists(attempts(), max_size=30), st.integers(1, 5))
def test_told_in_any_pieces_it_counts_what_the_outcomes_say(told, size):
    tally = BatchTally(requested=6)

    for start in range(0, len(told), size):
        tally.update(told[start : start + size])

    latest = {attempt.attempt_id: attempt for attempt in told}
    outcome = batch_outcome(BATCH, DECISION, latest.values())
    assert tally.counts() == outcome.counts()
    assert tally.spent == outcome.spent()


@given(st.lists(attempts(), max_size=10))
def test_the_same_news_again_changes_nothing(told):
    once, twice = BatchTally(requested=6), BatchTally(requested=6)
    latest = list({attempt.attempt_id: attempt for attempt in told}.values())
    once.update(latest)

    twice.update(latest)
    twice.update(latest)

    assert twice.counts() == once.counts()
    assert (twice.spent, twice.changed_at) == (once.spent, once.changed_at)


def test_images_of_refused_references_count_as_failed():
    tally = BatchTally(requested=6, failed_by_reference=2)

    counts = tally.counts()

    assert (counts["failed"], counts["not_attempted"], tally.spent) == (2, 4, ZERO)


def test_a_failed_item_in_hand_is_still_to_come_and_others_are_not():
    tally = BatchTally(requested=6, failed_by_reference=1)
    tally.update(
        [
            an_attempt("S1", 1),
            a_failed_attempt("S1", 2, code="provider-blocked"),
            a_failed_attempt("S2", 1, code="provider-unavailable"),
            a_failed_attempt("S2", 2, code="provider-rejected"),
        ]
    )
    in_hand = {"S1/1", "S1/2", "S2/1", "S3/1"}

    counts = tally.counts(in_hand)

    assert (counts["delivered"], counts["blocked"], counts["failed"]) == (1, 1, 2)
    assert counts["not_attempted"] == 2
    assert tally.errors(in_hand) == {"provider-blocked": 1, "provider-rejected": 1}
    assert tally.retried(in_hand) == {"provider-unavailable": 1}
    assert tally.counts()["failed"] == 3


def test_delivered_and_blocked_items_are_at_their_end():
    tally = BatchTally(requested=6)

    tally.update(
        [
            an_attempt("S1", 1),
            a_failed_attempt("S1", 2, code="provider-blocked"),
            a_failed_attempt("S2", 1),
            an_intent("S2", 2),
        ]
    )

    assert tally.earlier().ended == {"S1/1", "S1/2"}


def test_an_item_whose_last_upload_was_not_answered_is_known():
    tally = BatchTally(requested=6)
    lost = {"code": "storage-unavailable", "state": AttemptState.CAPTURED, "cost": Money(2_000)}

    tally.update(
        [
            a_failed_attempt("S1", 1, **lost),
            a_failed_attempt("S1", 2, **lost),
            an_attempt("S1", 2, attempt_no=2),
            a_failed_attempt("S2", 1),
        ]
    )

    assert tally.earlier().unstored == {"S1/1"}


def test_it_knows_when_the_newest_change_was():
    tally = BatchTally(requested=6)

    tally.update([an_intent("S1", 1, **at(5)), an_attempt("S2", 1, resolved_at=NOW)])

    assert tally.changed_at == NOW + timedelta(seconds=5)
