"""Whether the catalogue still says what images cost."""

from fractions import Fraction

import pytest

from assetgen_pipeline.domain.errors import PriceUnknown
from assetgen_pipeline.domain.estimate import compare_estimate
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.domain.outcome import batch_outcome
from assetgen_pipeline_tests.builders import (
    a_batch,
    a_decision,
    a_failed_attempt,
    a_reference,
    an_attempt,
    an_image_request,
    row_references,
)
from assetgen_pipeline_tests.stage_bench import CATALOGUE


def compared(*attempts, variants=2, references=0):
    batch = a_batch(an_image_request("S1", variants=variants))
    used = tuple(a_reference(letter) for letter in "abcdef"[:references])
    outcome = batch_outcome(batch, a_decision(row_references("S1", used=used)), attempts)
    return compare_estimate(outcome, CATALOGUE)


@pytest.mark.parametrize(
    ("cost", "close"), [(2_400, True), (2_401, False), (1_600, True), (1_599, False)]
)
def test_a_fifth_more_or_less_is_close_and_a_micro_beyond_is_not(cost, close):
    found = compared(an_attempt(cost=Money(cost)))

    assert found.expected == Money(2_000)
    assert found.is_close is close


def test_what_was_paid_in_vain_counts_as_actual():
    lost = a_failed_attempt(cost=Money(2_000), cost_basis="assumed")

    found = compared(lost, an_attempt(attempt_no=2))

    assert (found.expected, found.actual) == (Money(2_000), Money(4_000))
    assert found.parted == Fraction(1)


def test_reused_images_and_those_that_failed_for_free_count_on_neither_side():
    reused = an_attempt("S1", 2, cost=ZERO, cost_basis="reused")

    found = compared(an_attempt(), reused, a_failed_attempt("S1", 3), variants=3)

    assert (found.expected, found.actual) == (Money(2_000), Money(2_000))


def test_a_batch_that_was_free_is_close_and_one_that_paid_for_nothing_is_not():
    assert compared().is_close
    assert not compared(a_failed_attempt(cost=Money(1))).is_close


def test_references_are_part_of_what_an_image_is_listed_with():
    found = compared(an_attempt(model="by-parts"), references=3)

    assert found.expected > Money(13_000)


def test_a_model_that_is_listed_no_more_cannot_be_compared():
    with pytest.raises(PriceUnknown):
        compared(an_attempt(model="gone"))
