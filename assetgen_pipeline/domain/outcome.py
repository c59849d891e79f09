"""Outcomes: what became of each image and row, derived from what the ledger recorded."""

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum

from assetgen_pipeline.domain.budget import AttemptRecord, AttemptState, StoredImage
from assetgen_pipeline.domain.image_request import BatchRequests, ImageRequest, Value
from assetgen_pipeline.domain.money import ZERO, Money, total
from assetgen_pipeline.domain.references import ReferenceDecision, RowReferences


class ImageStatus(StrEnum):
    """What became of one requested image."""

    DELIVERED = "delivered"
    FAILED = "failed"
    BLOCKED = "blocked"
    NOT_ATTEMPTED = "not_attempted"


class RowStatus(StrEnum):
    """What became of one row."""

    DELIVERED = "delivered"
    PARTIAL = "partial"
    FAILED = "failed"
    BLOCKED = "blocked"
    NOT_ATTEMPTED = "not_attempted"


class ImageOutcome(Value):
    """One requested image, with everything the results and the cost facts say of it."""

    scene_id: str
    row_number: int
    variant: int
    status: ImageStatus
    image_id: str = ""
    image: StoredImage | None = None
    provider: str = ""
    model: str = ""
    lane: str = ""
    attempts: int = 0
    cost: Money = ZERO
    cost_basis: str = "none"
    price_version: str = ""
    code: str = ""
    detail: str = ""
    latency_ms: int = 0
    run_id: str = ""
    spend_date: str = ""
    budget_date: str = ""
    created_at: str = ""


class RowOutcome(Value):
    """One row of the input and its images."""

    request: ImageRequest
    images: tuple[ImageOutcome, ...]
    references_used: int
    unfetched: tuple[str, ...]
    warning: str = ""

    @property
    def delivered(self) -> int:
        """Images that the row has."""
        return sum(image.status is ImageStatus.DELIVERED for image in self.images)

    @property
    def cost(self) -> Money:
        """What the row cost, failed attempts included."""
        return total([image.cost for image in self.images])

    @property
    def status(self) -> RowStatus:
        """The row's status; a row with some images is `partial`."""
        if self.delivered == len(self.images):
            return RowStatus.DELIVERED
        if self.delivered:
            return RowStatus.PARTIAL
        found = {image.status for image in self.images}
        for status in (ImageStatus.BLOCKED, ImageStatus.FAILED):
            if status in found:
                return RowStatus(status.value)
        return RowStatus.NOT_ATTEMPTED

    @property
    def failure(self) -> ImageOutcome | None:
        """The first image that was not delivered."""
        return next((i for i in self.images if i.status is not ImageStatus.DELIVERED), None)


class BatchOutcome(Value):
    """Every row of a batch and what became of it."""

    batch_id: str
    owner: str
    header: tuple[str, ...]
    rows: tuple[RowOutcome, ...]

    @property
    def images(self) -> list[ImageOutcome]:
        """Every requested image, in row and variant order."""
        return [image for row in self.rows for image in row.images]

    def counts(self) -> dict[str, int]:
        """Images by status, `requested` first."""
        counter = Counter(image.status.value for image in self.images)
        return {
            "requested": counter.total(),
            **{status.value: counter[status.value] for status in ImageStatus},
        }

    def spent(self) -> Money:
        """What the batch cost, assumed attempts included."""
        return total([image.cost for image in self.images])


def batch_outcome(
    batch: BatchRequests,
    decision: ReferenceDecision | None,
    attempts: Iterable[AttemptRecord],
) -> BatchOutcome:
    """Derive the outcome of every row: no row is ever left out.

    Without a reference decision (the batch ended before one was made) no image was attempted.
    """
    rows = decision.by_scene() if decision is not None else {}
    of_item: dict[str, list[AttemptRecord]] = {}
    for attempt in attempts:
        of_item.setdefault(attempt.item_key, []).append(attempt)
    return BatchOutcome(
        batch_id=batch.batch_id,
        owner=batch.owner,
        header=batch.header,
        rows=tuple(
            _row_outcome(request, rows.get(request.scene_id), of_item) for request in batch.requests
        ),
    )


def _row_outcome(
    request: ImageRequest,
    references: RowReferences | None,
    of_item: dict[str, list[AttemptRecord]],
) -> RowOutcome:
    images = []
    for variant in range(1, request.variants + 1):
        attempts = of_item.get(f"{request.scene_id}/{variant}", [])
        outcome = image_outcome(request, variant, attempts)
        if outcome.status is not ImageStatus.DELIVERED and references and references.failure_code:
            outcome = outcome.model_copy(
                update={
                    "status": ImageStatus.FAILED,
                    "code": references.failure_code,
                    "detail": references.failure or "",
                }
            )
        images.append(outcome)
    return RowOutcome(
        request=request,
        images=tuple(images),
        references_used=len(references.used) if references else 0,
        unfetched=references.unfetched if references else (),
        warning=(references.warning or "") if references else "",
    )


def image_outcome(
    request: ImageRequest, variant: int, attempts: Sequence[AttemptRecord]
) -> ImageOutcome:
    """One image's outcome: delivered by any attempt, else what the last one says."""
    subject = ImageOutcome(
        scene_id=request.scene_id,
        row_number=request.row_number,
        variant=variant,
        status=ImageStatus.NOT_ATTEMPTED,
    )
    if not attempts:
        return subject
    ordered, last = _in_order(attempts)
    delivering = last.image is not None
    return subject.model_copy(
        update={
            "status": attempt_status(last),
            "image_id": last.image_id,
            "image": last.image,
            "provider": last.provider,
            "model": last.model,
            "lane": last.lane,
            "attempts": sum(a.cost_basis != "reused" for a in ordered),
            "cost": total([a.cost or ZERO for a in ordered]),
            "cost_basis": _basis_of(ordered, last),
            "price_version": last.price_version,
            "code": "" if delivering else last.code,
            "detail": "" if delivering else last.detail,
            "latency_ms": sum(a.latency_ms for a in ordered),
            "run_id": last.run_id,
            "spend_date": last.spend_date.isoformat(),
            "budget_date": last.budget_date.isoformat(),
            "created_at": (last.resolved_at or last.intent_at).isoformat(),
        }
    )


def _in_order(
    attempts: Sequence[AttemptRecord],
) -> tuple[list[AttemptRecord], AttemptRecord]:
    """The attempts, oldest first, and the one that counts: the delivering, else the last."""
    # By number: a clock that was put back dates a later attempt before an earlier one.
    ordered = sorted(attempts, key=lambda attempt: attempt.attempt_no)
    delivering = next((a for a in ordered if a.image is not None), None)
    return ordered, delivering or ordered[-1]


def attempt_status(attempt: AttemptRecord) -> ImageStatus:
    """What one attempt means for its image."""
    if attempt.image is not None:
        return ImageStatus.DELIVERED
    if attempt.state is AttemptState.INTENT or attempt.code == "cancelled":
        return ImageStatus.NOT_ATTEMPTED
    if attempt.code == "provider-blocked":
        return ImageStatus.BLOCKED
    return ImageStatus.FAILED


def _basis_of(attempts: Sequence[AttemptRecord], last: AttemptRecord) -> str:
    """What the cost rests on: never `none` or `reused` where an attempt was paid."""
    if any(attempt.state is AttemptState.ASSUMED for attempt in attempts):
        return "assumed"
    paid = [attempt for attempt in attempts if attempt.cost is not None and attempt.cost > ZERO]
    return last.cost_basis if last in paid or not paid else paid[-1].cost_basis
