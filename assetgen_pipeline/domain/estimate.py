"""Estimate against actual: whether the catalogue still says what images cost."""

from fractions import Fraction

from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.domain.outcome import BatchOutcome, ImageStatus
from assetgen_pipeline.domain.pricing import Catalogue, listed_cost

PARTED = Fraction(20, 100)


class Comparison(Value):
    """What the images of a batch were expected to cost, and what was paid for them."""

    expected: Money
    """The listed price of every image that was paid for and delivered."""
    actual: Money
    """Everything paid, failed and assumed attempts included."""

    @property
    def parted(self) -> Fraction:
        """How far the actual lies from the expected: 1/5 is 20 % more, below 0 is less."""
        if self.expected == ZERO:
            return Fraction(0 if self.actual == ZERO else 1)
        return Fraction(self.actual.micros, self.expected.micros) - 1

    @property
    def is_close(self) -> bool:
        """Whether they part by no more than a fifth."""
        return abs(self.parted) <= PARTED


def compare_estimate(outcome: BatchOutcome, catalogue: Catalogue) -> Comparison:
    """Compare a batch's bill with the list.

    Raises:
        PriceUnknown: the catalogue no longer lists a model that was used.
    """
    expected = 0
    for row in outcome.rows:
        for image in row.images:
            if image.status is not ImageStatus.DELIVERED or image.attempts == 0:
                continue
            price = catalogue.price(image.provider, image.model)
            listed = listed_cost(price, prompt=row.request.prompt, references=row.references_used)
            expected += listed.micros
    return Comparison(expected=Money(expected), actual=outcome.spent())
