"""Generation: the exact image asked for, its content address, and how an attempt can fail."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from assetgen_pipeline.domain.errors import AssetgenError
from assetgen_pipeline.domain.image_request import (
    AspectRatio,
    BatchRequests,
    ReferenceMode,
    Value,
)
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.references import ReferenceDecision, StoredReference

# Part of every content address: raise it when the same request should give a new image.
TEMPLATE_VERSION = 1
_LONG_EDGE_PX = 1024


class PlannedImage(Value):
    """One image to make: everything that shapes it, and where it belongs."""

    image_id: str
    """Content address of what shapes the image (scene and URLs excluded)."""
    row_number: int
    scene_id: str
    variant: int
    prompt: str
    aspect_ratio: AspectRatio
    reference_mode: ReferenceMode
    references: tuple[StoredReference, ...]
    provider: str
    model: str

    @property
    def item_key(self) -> str:
        """The name of this image within its batch."""
        return f"{self.scene_id}/{self.variant}"

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height to ask for."""
        return self.aspect_ratio.pixels(_LONG_EDGE_PX)


class ProviderImage(Value):
    """What a provider answered: the bytes as they came, and what they cost."""

    data: bytes
    cost: Money
    cost_basis: str
    """`usage` (computed from reported usage) or `flat` (the catalogue's price)."""
    request_id: str = ""
    usage: str = ""
    """The provider's usage report as JSON text, empty where it gives none."""


class ErrorKind(StrEnum):
    """How one attempt failed; the table in `docs/architecture.md` says what follows."""

    TRANSIENT = "transient"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    UNKNOWN_OUTCOME = "unknown_outcome"
    NO_OUTPUT = "no_output"
    CONTENT_BLOCKED = "content_blocked"
    INVALID_REQUEST = "invalid_request"
    AUTH = "auth"
    QUOTA_EXHAUSTED = "quota_exhausted"
    FATAL_CONFIG = "fatal_config"
    BAD_OUTPUT = "bad_output"


class Billing(StrEnum):
    """Whether the provider bills a failed attempt, as far as can be known."""

    NOT_BILLED = "not_billed"
    MAYBE = "maybe"
    BILLED = "billed"


_CODES = {
    ErrorKind.TRANSIENT: "provider-unavailable",
    ErrorKind.RATE_LIMITED: "provider-rate-limited",
    ErrorKind.OVERLOADED: "provider-unavailable",
    ErrorKind.UNKNOWN_OUTCOME: "provider-unavailable",
    ErrorKind.NO_OUTPUT: "provider-rejected",
    ErrorKind.CONTENT_BLOCKED: "provider-blocked",
    ErrorKind.INVALID_REQUEST: "provider-rejected",
    ErrorKind.AUTH: "provider-auth",
    ErrorKind.QUOTA_EXHAUSTED: "provider-quota",
    ErrorKind.FATAL_CONFIG: "provider-config",
    ErrorKind.BAD_OUTPUT: "provider-rejected",
}
STOPS_THE_BATCH = frozenset({ErrorKind.AUTH, ErrorKind.QUOTA_EXHAUSTED, ErrorKind.FATAL_CONFIG})
ENDS_THE_IMAGE = frozenset({ErrorKind.CONTENT_BLOCKED, ErrorKind.INVALID_REQUEST})


class ProviderError(AssetgenError):
    """One attempt at one image failed."""

    def __init__(
        self,
        message: str,
        *,
        kind: ErrorKind,
        billing: Billing = Billing.NOT_BILLED,
        retry_after_s: float | None = None,
        cost: Money | None = None,
    ) -> None:
        """`cost` is what a billed failure cost, where the provider says so."""
        super().__init__(message)
        self.kind = kind
        self.code = _CODES[kind]
        self.billing = billing
        self.retry_after_s = retry_after_s
        self.cost = cost


def image_id_of(image: PlannedImage) -> str:
    """The content address: 40 hex digits over everything that shapes the image."""
    shape = {
        "template": TEMPLATE_VERSION,
        "provider": image.provider,
        "model": image.model,
        "prompt": image.prompt,
        "size": image.size_px,
        "mode": image.reference_mode,
        "references": [reference.fingerprint for reference in image.references],
        "variant": image.variant,
    }
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:40]


def plan_images(
    batch: BatchRequests, decision: ReferenceDecision, *, provider: str, model: str
) -> tuple[PlannedImage, ...]:
    """Every image that the batch can make, in row and variant order.

    Rows whose references failed by policy plan nothing: no paid call is made for them.
    """
    rows = decision.by_scene()
    planned = []
    for request in batch.requests:
        row = rows[request.scene_id]
        if row.failure_code is not None:
            continue
        for variant in range(1, request.variants + 1):
            image = PlannedImage(
                image_id="",
                row_number=request.row_number,
                scene_id=request.scene_id,
                variant=variant,
                prompt=request.prompt,
                aspect_ratio=request.aspect_ratio,
                reference_mode=request.reference_mode,
                references=row.used,
                provider=provider,
                model=model,
            )
            planned.append(image.model_copy(update={"image_id": image_id_of(image)}))
    return tuple(planned)


def plan_shards(
    images: Sequence[PlannedImage], *, shard_rows: int
) -> tuple[tuple[PlannedImage, ...], ...]:
    """Cut the images into shards of about `shard_rows` rows.

    Images of one content address stay in one shard, so that the second is served from
    the first and never paid twice by two shards at once.
    """
    home: dict[str, int] = {}
    shards: dict[int, list[PlannedImage]] = {}
    rows: list[int] = []
    for image in images:
        if not rows or rows[-1] != image.row_number:
            rows.append(image.row_number)
        shard = home.setdefault(image.image_id, (len(rows) - 1) // shard_rows)
        shards.setdefault(shard, []).append(image)
    return tuple(tuple(shards[index]) for index in sorted(shards))


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedImage:
    """What a generated image turned out to be, and its thumbnail."""

    mime_type: str
    width: int
    height: int
    thumbnail: bytes
    """JPEG, 256 px on the long edge."""
