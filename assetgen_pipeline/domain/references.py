"""Reference images: how they are identified, merged per row, and what became of each URL."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field

from assetgen_pipeline.domain.image_request import MAX_REFERENCES, ImageRequest, Value


class StoredReference(Value):
    """A reference image in the bucket, re-encoded and stripped of metadata."""

    fingerprint: str
    """`img1:sha256:<hex of the bytes as fetched>`."""
    object_name: str
    mime_type: str
    width: int
    height: int


class Fetched(Value):
    """The URL gave an image."""

    kind: Literal["fetched"] = "fetched"
    reference: StoredReference


class Unfetched(Value):
    """The URL gave nothing usable; rows go on without it, known by the URL's hash."""

    kind: Literal["unfetched"] = "unfetched"
    fingerprint: str
    code: str
    detail: str


class Blocked(Value):
    """Policy refuses the URL; rows that name it fail."""

    kind: Literal["blocked"] = "blocked"
    code: str
    detail: str


FetchOutcome = Annotated[Fetched | Unfetched | Blocked, Field(discriminator="kind")]


class PackContent(Value):
    """A reference pack as it was found: as many images as a row can use."""

    pack_id: str
    found: bool
    references: tuple[StoredReference, ...]
    dropped: tuple[str, ...] = ()
    """What of the pack cannot be used, or is more than a row can use, and why."""


class RowReferences(Value):
    """The decision for one row: made once, reused by every re-execution."""

    scene_id: str
    used: tuple[StoredReference, ...]
    unfetched: tuple[str, ...]
    """One label and reason for each reference that the row goes without."""
    dropped: tuple[str, ...]
    """What the limit of 6 or a duplicate left out, and why."""
    failure_code: str | None = None
    failure: str | None = None
    warning: str | None = None


class ReferenceDecision(Value):
    """The references of a whole batch: the artifact of `reference_images`."""

    rows: tuple[RowReferences, ...]
    named: int
    """References named by rows, duplicates included."""
    unique_urls: int
    fetched: int
    requests: int
    """Network attempts made."""
    revalidated: int = 0
    """URLs whose server said that the stored image still stands."""
    waited_s: float = 0.0
    """Time spent waiting for the machine's fetch slots."""
    packs_dropped: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """What of each pack was left out, and why."""

    def by_scene(self) -> dict[str, RowReferences]:
        """The rows by scene id."""
        return {row.scene_id: row for row in self.rows}


def content_fingerprint(sha256: str) -> str:
    """The identity of bytes; never compared with a URL's."""
    return f"img1:sha256:{sha256}"


def url_fingerprint(url: str) -> str:
    """The identity of a URL whose bytes could not be had."""
    return f"url1:sha256:{hashlib.sha256(url.encode()).hexdigest()}"


def url_label(url: str) -> str:
    """A URL as it may be shown: scheme, host and a short hash; never path or query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or '?'}/…#{url_fingerprint(url)[-64:][:12]}"


def decide_row(
    request: ImageRequest,
    *,
    outcomes: Mapping[str, Fetched | Unfetched | Blocked],
    packs: Mapping[str, PackContent],
) -> RowReferences:
    """Merge a row's references with its pack's: the row's first, each content once, 6 at most."""
    found: list[StoredReference] = []
    unfetched: list[str] = []
    for number, url in enumerate(request.reference_urls, start=1):
        outcome = outcomes[url]
        label = f"reference {number}, {url_label(url)}"
        if isinstance(outcome, Blocked):
            return _failed(request, outcome.code, f"{label}: {outcome.detail}")
        if isinstance(outcome, Unfetched):
            unfetched.append(f"{label}: {outcome.code}: {outcome.detail}")
        else:
            found.append(outcome.reference)
    warning = None
    pack = packs.get(request.ref_pack_id)
    if pack is not None and pack.found:
        found.extend(pack.references)
    elif pack is not None:
        warning = f"reference pack {request.ref_pack_id} does not exist"
        if not request.reference_urls:
            return _failed(request, "pack-unknown", warning)
    used, dropped = _distinct(found)
    return RowReferences(
        scene_id=request.scene_id,
        used=used,
        unfetched=tuple(unfetched),
        dropped=dropped,
        warning=warning,
    )


def _failed(request: ImageRequest, code: str, reason: str) -> RowReferences:
    return RowReferences(
        scene_id=request.scene_id,
        used=(),
        unfetched=(),
        dropped=(),
        failure_code=code,
        failure=reason,
    )


def _distinct(
    found: Sequence[StoredReference],
) -> tuple[tuple[StoredReference, ...], tuple[str, ...]]:
    used: dict[str, StoredReference] = {}
    dropped: list[str] = []
    for reference in found:
        label = reference.fingerprint.rpartition(":")[2][:12]
        if reference.fingerprint in used:
            dropped.append(f"{label}: same bytes as another reference of the row")
        elif len(used) == MAX_REFERENCES:
            dropped.append(f"{label}: more than {MAX_REFERENCES} references")
        else:
            used[reference.fingerprint] = reference
    return tuple(used.values()), tuple(dropped)


class Validators(Value):
    """What a server says identifies the bytes it sent, to be asked about later."""

    etag: str = ""
    last_modified: str = ""

    def __bool__(self) -> bool:
        """Whether there is anything to ask about."""
        return bool(self.etag or self.last_modified)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedBytes:
    """What a reference server sent, undecoded."""

    data: bytes
    content_type: str
    validators: Validators = field(default_factory=Validators)


@dataclass(frozen=True, slots=True)
class NotModified:
    """The server says that what it sent before still stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedReference:
    """A reference re-encoded without metadata, 2,048 px at most on the long edge."""

    data: bytes
    mime_type: str
    width: int
    height: int
    source_type: str
    """What the bytes that came were, whatever their server called them."""
