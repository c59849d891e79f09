"""What each lane of a rollout did, from attempts in memory."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from assetgen_pipeline.domain.budget import AttemptRecord, AttemptState
from assetgen_pipeline.domain.lanes import LaneFigures
from assetgen_pipeline.domain.money import ZERO, total

Model = tuple[str, str, str]


def lane_figures(attempts: Iterable[AttemptRecord], since: datetime) -> list[LaneFigures]:
    """Images first asked for at or after `since` that are at an end, by lane and model."""
    models: dict[Model, dict[tuple[str, str], list[AttemptRecord]]] = {}
    for one in attempts:
        if one.intent_at >= since and one.cost_basis != "reused":
            images = models.setdefault((one.lane, one.provider, one.model), {})
            images.setdefault((one.batch_id, one.item_key), []).append(one)
    ended = {model: _ended(images.values()) for model, images in models.items()}
    return [_figures(model, images) for model, images in sorted(ended.items()) if images]


def _ended(images: Iterable[list[AttemptRecord]]) -> list[list[AttemptRecord]]:
    return [tries for tries in images if all(one.state is not AttemptState.INTENT for one in tries)]


def _figures(model: Model, images: list[list[AttemptRecord]]) -> LaneFigures:
    lane, provider, name = model
    attempts = [one for tries in images for one in tries]
    delivered = [tries for tries in images if any(one.image for one in tries)]
    latencies = Counter(sum(one.latency_ms for one in tries) for tries in delivered)
    return LaneFigures(
        lane=lane,
        provider=provider,
        model=name,
        images=len(images),
        delivered=len(delivered),
        cost=total([one.cost or ZERO for one in attempts]),
        latencies=tuple(sorted(latencies.items())),
    )
