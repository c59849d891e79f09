"""Builders of domain values for tests: each has defaults for what a test does not care about."""

from datetime import UTC, date, datetime

from assetgen_pipeline.domain.batch_file import CsvLimits, parse_batch_file
from assetgen_pipeline.domain.budget import AttemptRecord, AttemptState, StoredImage
from assetgen_pipeline.domain.csv_cells import write_csv
from assetgen_pipeline.domain.errors import BatchRejected
from assetgen_pipeline.domain.generation import ProviderError, ProviderImage
from assetgen_pipeline.domain.image_request import (
    AspectRatio,
    BatchRequests,
    ImageRequest,
    ReferenceMode,
)
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.references import (
    Fetched,
    ReferenceDecision,
    RowReferences,
    StoredReference,
    content_fingerprint,
)

OWNER = "studio"
BUCKET = "assetgen-test"
BATCH_ID = "studio.spring.0123abcd"
RUN_ID = "11111111-2222-3333-4444-555555555555"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HEADER = ("scene_id", "prompt")


def a_csv(*rows, header=HEADER) -> bytes:
    return write_csv(header, [[str(cell) for cell in row] for row in rows])


def an_image_request(scene_id="S1", *, row_number=1, prompt="a kitchen", cells=None, **changes):
    return ImageRequest(
        **{
            "row_number": row_number,
            "line": row_number + 1,
            "scene_id": scene_id,
            "prompt": prompt,
            "variants": 1,
            "reference_urls": (),
            "reference_mode": ReferenceMode.STYLE_ONLY,
            "ref_pack_id": "",
            "aspect_ratio": AspectRatio.SQUARE,
            "cells": cells if cells is not None else (scene_id, prompt),
            **changes,
        }
    )


def a_batch(*requests, header=HEADER, **changes):
    return BatchRequests(
        **{
            "batch_id": BATCH_ID,
            "owner": OWNER,
            "mode": "normal",
            "header": header,
            "requests": requests or (an_image_request(),),
            "received_at": NOW.isoformat(),
            **changes,
        }
    )


def a_reference(letter="a"):
    sha256 = letter * 64
    return StoredReference(
        fingerprint=content_fingerprint(sha256),
        object_name=f"references/{OWNER}/{sha256}.png",
        mime_type="image/png",
        width=64,
        height=64,
    )


def fetched(letter="a"):
    return Fetched(reference=a_reference(letter))


def row_references(scene_id="S1", **changes):
    return RowReferences(
        **{"scene_id": scene_id, "used": (), "unfetched": (), "dropped": (), **changes}
    )


def a_decision(*rows):
    return ReferenceDecision(rows=rows, named=0, unique_urls=0, fetched=0, requests=0)


def a_stored_image(image_id="ab" * 20):
    return StoredImage(
        object_name=f"images/{OWNER}/{image_id[:2]}/{image_id}.png",
        thumbnail_name=f"thumbnails/{OWNER}/{image_id[:2]}/{image_id}.jpg",
        mime_type="image/png",
        width=1024,
        height=1024,
        size_bytes=10,
        sha256="c" * 64,
    )


def an_attempt(scene_id="S1", variant=1, *, attempt_no=1, **changes):
    """One captured attempt that delivered; say otherwise with `changes`."""
    return AttemptRecord(
        **{
            "attempt_id": f"{scene_id}-{variant}-{attempt_no}",
            "hold_id": "hold-1",
            "batch_id": BATCH_ID,
            "item_key": f"{scene_id}/{variant}",
            "attempt_no": attempt_no,
            "image_id": "ab" * 20,
            "row_number": 1,
            "scene_id": scene_id,
            "variant": variant,
            "provider": "local",
            "model": "renderer",
            "lane": "stable",
            "run_id": RUN_ID,
            "state": AttemptState.CAPTURED,
            "ceiling": Money(2000),
            "cost": Money(2000),
            "cost_basis": "flat",
            "code": "",
            "detail": "",
            "image": a_stored_image(),
            "latency_ms": 5,
            "price_version": "2026-01+00000000",
            "spend_date": date(2026, 3, 1),
            "budget_date": date(2026, 3, 1),
            "intent_at": NOW,
            "resolved_at": NOW,
            **changes,
        }
    )


def a_failed_attempt(scene_id="S1", variant=1, *, code="provider-rejected", **changes):
    defaults = {
        "state": AttemptState.VOIDED,
        "cost": None,
        "cost_basis": "none",
        "image": None,
        "detail": "no image came back",
    }
    return an_attempt(scene_id, variant, code=code, **{**defaults, **changes})


def a_row(**cells) -> bytes:
    """A file of one row, valid but for what `cells` make of it."""
    return a_csv(["S1", "p", *cells.values()], header=["scene_id", "prompt", *cells.keys()])


def parse(data, *, limits=None):
    """What our owner gets for a file of bytes or text."""
    data = data.encode() if isinstance(data, str) else data
    return parse_batch_file(data, limits=limits or CsvLimits(), own_bucket=BUCKET, owner=OWNER)


def problems_of(data, *, limits=None):
    """What a file is rejected for."""
    try:
        parse(data, limits=limits)
    except BatchRejected as error:
        return error.problems
    return ()


def found(data, *, limits=None):
    """Where a file is wrong and by which rule, in short."""
    return [(p.line, p.column, p.code) for p in problems_of(data, limits=limits)]


def an_answer(data=b"png", *, cost=1_500, **changes):
    """What a provider answers where all is well."""
    return ProviderImage(data=data, cost=Money(cost), cost_basis="usage", **changes)


def an_error(kind, **changes):
    """How one attempt fails."""
    return ProviderError("it did not work", kind=kind, **changes)
