from datetime import timedelta

import pytest

from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.domain.outcome import ImageStatus, RowStatus, batch_outcome
from assetgen_pipeline_tests.builders import (
    NOW,
    a_batch,
    a_decision,
    a_failed_attempt,
    a_reference,
    an_attempt,
    an_image_request,
    row_references,
)


def row_of(*attempts, variants=1, references=None):
    batch = a_batch(an_image_request(variants=variants))
    decision = a_decision(references or row_references())
    return batch_outcome(batch, decision, attempts).rows[0]


def image_of(*attempts):
    return row_of(*attempts).images[0]


def test_no_row_is_ever_left_out_even_before_references_were_decided():
    batch = a_batch(an_image_request("A", variants=3), an_image_request("B", row_number=2))

    outcome = batch_outcome(batch, None, [])

    assert [row.status for row in outcome.rows] == [RowStatus.NOT_ATTEMPTED] * 2
    assert outcome.counts() == {
        "requested": 4,
        "delivered": 0,
        "failed": 0,
        "blocked": 0,
        "not_attempted": 4,
    }
    assert outcome.spent() == ZERO
    assert (outcome.rows[0].references_used, outcome.rows[0].warning) == (0, "")


@pytest.mark.parametrize(
    ("attempt", "status"),
    [
        (an_attempt(), ImageStatus.DELIVERED),
        (a_failed_attempt(), ImageStatus.FAILED),
        (a_failed_attempt(state=AttemptState.ASSUMED, code=""), ImageStatus.FAILED),
        (a_failed_attempt(code="provider-blocked"), ImageStatus.BLOCKED),
        (a_failed_attempt(code="cancelled"), ImageStatus.NOT_ATTEMPTED),
        (a_failed_attempt(state=AttemptState.INTENT, code=""), ImageStatus.NOT_ATTEMPTED),
    ],
)
def test_an_attempt_says_what_became_of_its_image(attempt, status):
    assert image_of(attempt).status is status


def test_the_last_attempt_speaks_unless_an_earlier_one_delivered():
    first = a_failed_attempt(attempt_no=1)
    second = an_attempt(attempt_no=2, intent_at=NOW + timedelta(seconds=1))
    third = a_failed_attempt(attempt_no=3, intent_at=NOW + timedelta(seconds=2), code="cancelled")

    assert image_of(third, first).status is ImageStatus.NOT_ATTEMPTED
    delivered = image_of(third, second, first)
    assert delivered.status is ImageStatus.DELIVERED
    assert (delivered.code, delivered.detail) == ("", "")
    assert (delivered.attempts, delivered.latency_ms) == (3, 15)


def test_the_last_attempt_speaks_also_where_the_clock_was_put_back_before_it():
    first = a_failed_attempt(attempt_no=1)
    earlier = NOW - timedelta(hours=1)
    second = a_failed_attempt(attempt_no=2, intent_at=earlier, code="provider-blocked")

    assert image_of(first, second).status is ImageStatus.BLOCKED


def test_an_image_costs_what_all_its_attempts_cost():
    paid = a_failed_attempt(cost=Money(500), cost_basis="flat", attempt_no=1)

    assert image_of(paid, an_attempt(attempt_no=2)).cost == Money(2500)
    assert row_of(paid, an_attempt(attempt_no=2)).cost == Money(2500)


@pytest.mark.parametrize(
    ("attempts", "basis"),
    [
        ([an_attempt(cost_basis="usage")], "usage"),
        ([a_failed_attempt(attempt_no=1), an_attempt(attempt_no=2)], "flat"),
        ([an_attempt(cost=ZERO, cost_basis="reused")], "reused"),
        ([a_failed_attempt()], "none"),
        (
            [
                a_failed_attempt(attempt_no=1, cost=Money(5), cost_basis="usage"),
                a_failed_attempt(attempt_no=2),
            ],
            "usage",
        ),
        (
            [
                a_failed_attempt(attempt_no=1, state=AttemptState.ASSUMED, cost=Money(5)),
                an_attempt(attempt_no=2),
            ],
            "assumed",
        ),
    ],
)
def test_the_basis_of_a_cost_is_that_of_what_was_paid(attempts, basis):
    assert image_of(*attempts).cost_basis == basis


def test_a_reused_image_is_no_attempt():
    image = image_of(an_attempt(cost=ZERO, cost_basis="reused"))

    assert (image.attempts, image.cost) == (0, ZERO)


def test_dates_and_times_are_text():
    image = image_of(an_attempt(resolved_at=None))

    assert (image.created_at, image.budget_date) == (NOW.isoformat(), "2026-03-01")


@pytest.mark.parametrize(
    ("attempts", "status"),
    [
        ([an_attempt(variant=1), an_attempt(variant=2)], RowStatus.DELIVERED),
        ([an_attempt(variant=1)], RowStatus.PARTIAL),
        ([a_failed_attempt(variant=2)], RowStatus.FAILED),
        (
            [a_failed_attempt(variant=1), a_failed_attempt(variant=2, code="provider-blocked")],
            RowStatus.BLOCKED,
        ),
        ([], RowStatus.NOT_ATTEMPTED),
    ],
)
def test_a_row_is_the_sum_of_its_images(attempts, status):
    assert row_of(*attempts, variants=2).status is status


def test_the_failure_of_a_row_is_its_first_image_that_is_missing():
    row = row_of(an_attempt(variant=1), a_failed_attempt(variant=2), variants=3)

    assert row.failure is not None
    assert (row.failure.variant, row.failure.code) == (2, "provider-rejected")
    assert row_of(an_attempt()).failure is None


def test_a_row_whose_references_were_refused_failed_without_an_attempt():
    refused = row_references(failure_code="reference-blocked", failure="h: refused")

    row = row_of(variants=2, references=refused)

    assert row.status is RowStatus.FAILED
    assert {(image.code, image.detail) for image in row.images} == {
        ("reference-blocked", "h: refused")
    }


def test_an_image_that_was_delivered_stays_delivered_whatever_its_references_say_later():
    refused = row_references(failure_code="pack-unknown")

    row = row_of(an_attempt(variant=1), variants=2, references=refused)

    assert [image.status for image in row.images] == [ImageStatus.DELIVERED, ImageStatus.FAILED]


def test_a_row_tells_of_its_references():
    row = row_of(
        references=row_references(used=(a_reference(),), unfetched=("u",), warning="no such pack")
    )

    assert (row.references_used, row.unfetched, row.warning) == (1, ("u",), "no such pack")
