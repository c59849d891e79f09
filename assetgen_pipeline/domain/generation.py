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
from assetgen_pipeline.domain.prompt_wording import WORDING_VERSION
from assetgen_pipeline.domain.references import ReferenceDecision, StoredReference

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
    options: str = ""
    """What the catalogue has sent along (`RequestOptions.fingerprint`)."""

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
    pause_s: float | None = None
    """How long the provider says that its limit is used up, where it says so."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRule:
    """What follows from one kind of failure; `docs/architecture.md` shows these rows."""

    code: str
    """The problem code in the results."""
    row: str
    run: str
    retries: int | None
    """Further attempts within a run; `None` goes on until the run stops."""
    billing: Billing
    """Unless the provider says otherwise."""
    at_the_end: bool = False
    """Tried again only once every other image of the shard had its turn."""
    slows: bool = False
    """Tells that we ask too fast."""
    stops: bool = False
    """No further image is started."""
    fix: str = "`assetgen retry BATCH` tries again what is not delivered."


_NO, _MAYBE, _YES = Billing.NOT_BILLED, Billing.MAYBE, Billing.BILLED
_SILENCE = "ten in a row stop it"
FAILURE_RULES = {
    ErrorKind.TRANSIENT: FailureRule(
        code="provider-unavailable", row="tried again", run=_SILENCE, retries=4, billing=_NO
    ),
    ErrorKind.RATE_LIMITED: FailureRule(
        code="provider-rate-limited",
        row="waits",
        run="slows down; stops after 15 minutes without an answer",
        retries=None,
        billing=_NO,
        slows=True,
    ),
    ErrorKind.OVERLOADED: FailureRule(
        code="provider-unavailable",
        row="tried again",
        run=f"slows down; {_SILENCE}",
        retries=8,
        billing=_NO,
        slows=True,
    ),
    ErrorKind.UNKNOWN_OUTCOME: FailureRule(
        code="provider-unavailable",
        row="tried again at the end",
        run=_SILENCE,
        retries=1,
        billing=_MAYBE,
        at_the_end=True,
    ),
    ErrorKind.NO_OUTPUT: FailureRule(
        code="provider-rejected", row="tried again", run="", retries=1, billing=_YES
    ),
    ErrorKind.CONTENT_BLOCKED: FailureRule(
        code="provider-blocked", row="blocked for good", run="", retries=0, billing=_NO
    ),
    ErrorKind.INVALID_REQUEST: FailureRule(
        code="provider-rejected",
        row="fails",
        run="the first ten, without an image between them, stop it",
        retries=0,
        billing=_NO,
    ),
    ErrorKind.AUTH: FailureRule(
        code="provider-auth",
        row="fails",
        run="stops",
        retries=0,
        billing=_NO,
        stops=True,
        fix="Set the provider's key or credentials; `assetgen retry BATCH` then goes on.",
    ),
    ErrorKind.QUOTA_EXHAUSTED: FailureRule(
        code="provider-quota",
        row="fails",
        run="stops",
        retries=0,
        billing=_NO,
        stops=True,
        fix="Raise the account's quota or credit, or wait; `assetgen retry BATCH` then goes on.",
    ),
    ErrorKind.FATAL_CONFIG: FailureRule(
        code="provider-config",
        row="fails",
        run="stops",
        retries=0,
        billing=_NO,
        stops=True,
        fix="Set ASSETGEN_MODEL and the endpoint right; `assetgen retry BATCH` then goes on.",
    ),
    ErrorKind.BAD_OUTPUT: FailureRule(
        code="provider-rejected", row="tried again", run="", retries=1, billing=_YES
    ),
}


class ProviderError(AssetgenError):
    """One attempt at one image failed."""

    def __init__(
        self,
        message: str,
        *,
        kind: ErrorKind,
        billing: Billing | None = None,
        retry_after_s: float | None = None,
        cost: Money | None = None,
        cost_basis: str = "usage",
        request_id: str = "",
    ) -> None:
        """`billing` is the rule's unless given; `cost` is what a billed failure cost, if known.

        `request_id` is the vendor's name for the request.
        """
        super().__init__(message)
        self.kind = kind
        self.rule = FAILURE_RULES[kind]
        self.code = self.rule.code
        self.fix = self.rule.fix
        self.billing = self.rule.billing if billing is None else billing
        self.retry_after_s = retry_after_s
        self.cost = cost
        self.cost_basis = cost_basis
        self.request_id = request_id


def image_id_of(image: PlannedImage) -> str:
    """The content address: 40 hex digits over everything that shapes the image."""
    shape = {
        "template": WORDING_VERSION,
        "provider": image.provider,
        "model": image.model,
        "prompt": image.prompt,
        "size": image.size_px,
        # Where there are no references, nothing is said of what they are for.
        "mode": image.reference_mode if image.references else ReferenceMode.STYLE_ONLY,
        "references": [reference.fingerprint for reference in image.references],
        "variant": image.variant,
        **({"options": image.options} if image.options else {}),
    }
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:40]


def plan_images(
    batch: BatchRequests,
    decision: ReferenceDecision,
    *,
    provider: str,
    model: str,
    options: str = "",
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
                options=options,
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
