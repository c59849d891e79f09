"""One log line per paid attempt, at its end: what it was for, how it went, what it cost."""

import logging

from assetgen_pipeline.domain.budget import AttemptToken, Hold
from assetgen_pipeline.domain.generation import Billing, PlannedImage, ProviderError
from assetgen_pipeline.domain.money import ZERO, Money

logger = logging.getLogger(__name__)


def log_attempt(
    image: PlannedImage,
    token: AttemptToken,
    hold: Hold,
    latency_ms: int,
    *,
    failure: ProviderError | None,
    cost: Money | None = None,
) -> None:
    """Log one attempt that has ended; `cost` is what the provider answered, if it did."""
    logger.log(
        logging.WARNING if failure else logging.INFO,
        "attempt",
        extra={
            "batch": hold.batch_id,
            "owner": hold.owner,
            "scene": image.scene_id,
            "variant": image.variant,
            "attempt": token.attempt_no,
            "provider": image.provider,
            "model": image.model,
            "outcome": failure.kind.value if failure else "delivered",
            "code": failure.code if failure else "",
            "cost": (cost if cost is not None else _cost_of(failure, token)).usd(),
            "duration": latency_ms / 1000,
        },
    )


def _cost_of(failure: ProviderError | None, token: AttemptToken) -> Money:
    """What a failed attempt is booked at: nothing, its cost, or the ceiling where nobody knows."""
    if failure is None or failure.billing is Billing.NOT_BILLED:
        return ZERO
    known = failure.cost if failure.billing is Billing.BILLED else None
    return known if known is not None else token.ceiling
