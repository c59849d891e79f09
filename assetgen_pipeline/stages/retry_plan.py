"""What a retry would make: the images without a delivery, and what they may cost at most."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from assetgen_pipeline.domain.budget import AttemptRecord
from assetgen_pipeline.domain.image_request import BatchRequests
from assetgen_pipeline.domain.money import Money, total
from assetgen_pipeline.domain.outcome import ImageStatus, batch_outcome
from assetgen_pipeline.domain.pricing import ModelPrice
from assetgen_pipeline.stages.reserve_budget import missing_by_row


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPlan:
    """The scenes and images that a retry would make."""

    scenes: tuple[str, ...]
    images: int
    estimate: Money


def plan_retry(
    batch: BatchRequests,
    attempts: Sequence[AttemptRecord],
    *,
    price: ModelPrice,
    scenes: Collection[str] | None,
) -> RetryPlan:
    """Plan a retry of all rows, or of some; what the provider's policy blocked is left alone."""
    outcome = batch_outcome(batch, None, attempts)
    ended = (ImageStatus.DELIVERED, ImageStatus.BLOCKED)
    missing = [
        image
        for image in outcome.images
        if image.status not in ended and (scenes is None or image.scene_id in scenes)
    ]
    return RetryPlan(
        scenes=tuple(dict.fromkeys(image.scene_id for image in missing)),
        images=len(missing),
        estimate=total(missing_by_row(batch, attempts, price=price, scenes=scenes)),
    )
