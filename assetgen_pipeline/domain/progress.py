"""How far a running batch is: what `watch` shows beside the status, as state and never as events."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.outcome import ImageOutcome, ImageStatus

Stage = Literal["file", "references", "images", "delivery"]
STAGES: tuple[Stage, ...] = ("file", "references", "images", "delivery")


class BatchProgress(Value):
    """The stage that a batch is in; those before it are done, those after it have not begun."""

    stage: Stage
    done: int = 0
    """Of the stage's own units: reference URLs or images."""
    total: int = 0
    errors: dict[str, int] = Field(default_factory=dict)
    """Images that ended without success, by problem code."""
    retried: dict[str, int] = Field(default_factory=dict)
    """Images that are tried again, by the problem code of their last attempt."""
    waits_for: str = ""
    """What the next step of the stage cannot begin without, in words; empty where it may begin."""
    updated_at: str = ""


def errors_by_reason(images: Iterable[ImageOutcome]) -> dict[str, int]:
    """Images that were not delivered, by their reason, the most frequent first."""
    found = Counter(
        image.code for image in images if image.code and image.status is not ImageStatus.DELIVERED
    )
    return dict(found.most_common())


def seconds_left(*, done: int, total: int, since_done: int, seconds: float) -> float | None:
    """Time until `total` at the pace seen: `since_done` in `seconds`; `None` while unknown."""
    if since_done <= 0 or seconds <= 0:
        return None
    return max(0, total - done) * seconds / since_done
