"""The files of a batch's results, built from its outcome alone.

The contact sheet holds pixels and is built where those are; here is what is made of text.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from assetgen_pipeline.domain.batch_file import normalized_column
from assetgen_pipeline.domain.csv_cells import write_csv
from assetgen_pipeline.domain.delivery import SignedUrls
from assetgen_pipeline.domain.image_request import MAX_VARIANTS
from assetgen_pipeline.domain.outcome import BatchOutcome, ImageOutcome, RowOutcome, RowStatus
from assetgen_pipeline.domain.result_columns import RESULT_COLUMNS

_VARIANTS = range(1, MAX_VARIANTS + 1)
_LAPSED = (
    "the links ended on {} and are no longer kept fresh; `assetgen refresh-urls {}` signs new ones"
)
_TEMPLATE_HEADER = (
    "scene_id",
    "prompt",
    "variants",
    "reference_urls",
    "reference_mode",
    "ref_pack_id",
    "aspect_ratio",
)
_TEMPLATE_ROWS = (
    ("scene-001", "A cosy kitchen in warm morning light", "1", "", "style_only", "", "1:1"),
    ("scene-002", "A living room with plants, late afternoon", "2", "", "", "", "16:9"),
)


@dataclass(frozen=True, slots=True)
class SignedLink:
    """A signed URL, when it ends (ISO 8601 UTC), and the kind of its signer."""

    url: str
    expires_at: str
    signer: str = ""


def results_csv(
    outcome: BatchOutcome,
    links: Mapping[str, SignedLink],
    *,
    bucket: str,
    lapsed_at: str = "",
) -> bytes:
    """`results.csv`; `links` by object name, and an object without one has an empty cell.

    Links that were given up are named by `lapsed_at`, when they ended: the rows say so.
    """
    kept = _input_columns(outcome.header)
    header = [outcome.header[index] for index in kept]
    lapsed = (lapsed_at, _LAPSED.format(lapsed_at, outcome.batch_id)) if lapsed_at else ("", "")
    return write_csv(
        [*header, *RESULT_COLUMNS],
        [
            [row.request.cells[index] for index in kept]
            + _result_cells(row, links, bucket=bucket, lapsed=lapsed)
            for row in outcome.rows
        ],
    )


def failed_csv(outcome: BatchOutcome) -> bytes:
    """`failed.csv`: the input's own columns, for the rows not wholly delivered."""
    return write_csv(
        outcome.header,
        [row.request.cells for row in outcome.rows if row.status is not RowStatus.DELIVERED],
    )


def manifest(
    outcome: BatchOutcome,
    *,
    bucket: str,
    signed: SignedUrls | None = None,
    links: Mapping[str, SignedLink] = {},
) -> dict[str, object]:
    """The lossless form of the results, with when and by whom links were signed.

    It holds no signed URL of ours: those stand in `results.csv` alone.
    """
    kept = _input_columns(outcome.header)
    return {
        "batch_id": outcome.batch_id,
        "owner": outcome.owner,
        "columns": [outcome.header[index] for index in kept],
        "images": outcome.counts(),
        "spent_usd": outcome.spent().usd(),
        "links": signed.model_dump(mode="json", exclude={"batch_id"}) if signed else None,
        "rows": [_manifest_row(row, kept, bucket=bucket, links=links) for row in outcome.rows],
    }


def manifest_json(
    outcome: BatchOutcome,
    *,
    bucket: str,
    signed: SignedUrls | None = None,
    links: Mapping[str, SignedLink] = {},
) -> bytes:
    """`manifest.json` as bytes."""
    document = manifest(outcome, bucket=bucket, signed=signed, links=links)
    return json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"


def template_csv() -> bytes:
    """A small valid input with every column of ours."""
    return write_csv(_TEMPLATE_HEADER, _TEMPLATE_ROWS)


def _input_columns(header: Sequence[str]) -> list[int]:
    """The input's columns that no result column replaces."""
    return [
        index for index, name in enumerate(header) if normalized_column(name) not in RESULT_COLUMNS
    ]


def _result_cells(
    row: RowOutcome, links: Mapping[str, SignedLink], *, bucket: str, lapsed: tuple[str, str]
) -> list[str]:
    images = {image.variant: image for image in row.images if image.image is not None}
    objects = {variant: _object_names(images.get(variant)) for variant in _VARIANTS}
    used = [links[name] for names in objects.values() for name in names if name in links]
    error_code, error = _error(row)
    lapsed_at, notice = lapsed if images else ("", "")
    error = "; ".join(part for part in (error, notice) if part)
    return [
        row.status.value,
        str(row.delivered),
        *(_uri(bucket, image) for image, _ in objects.values()),
        *(_url(links, image) for image, _ in objects.values()),
        *(_url(links, thumbnail) for _, thumbnail in objects.values()),
        min((link.expires_at for link in used), key=datetime.fromisoformat, default=lapsed_at),
        str(row.references_used),
        "; ".join(row.unfetched),
        row.cost.usd(),
        str(sum(image.attempts for image in row.images)),
        error_code,
        error,
    ]


def _object_names(outcome: ImageOutcome | None) -> tuple[str, str]:
    image = outcome.image if outcome is not None else None
    return (image.object_name, image.thumbnail_name) if image is not None else ("", "")


def _uri(bucket: str, name: str) -> str:
    return f"gs://{bucket}/{name}" if name else ""


def _url(links: Mapping[str, SignedLink], name: str) -> str:
    return links[name].url if name in links else ""


def _error(row: RowOutcome) -> tuple[str, str]:
    """Code and text; a warning alone has no code, because nothing failed."""
    failure = row.failure
    said = [failure.detail if failure is not None else "", row.warning]
    # A pack that is missing is both the failure and the warning.
    text = "; ".join(dict.fromkeys(part for part in said if part))
    return (failure.code if failure is not None else ""), text


def _manifest_row(
    row: RowOutcome, kept: Sequence[int], *, bucket: str, links: Mapping[str, SignedLink]
) -> dict[str, object]:
    request = row.request
    error_code, error = _error(row)
    return {
        **request.model_dump(mode="json", exclude={"cells"}),
        "cells": [request.cells[index] for index in kept],
        "status": row.status.value,
        "images_delivered": row.delivered,
        "references_used": row.references_used,
        "references_unfetched": list(row.unfetched),
        "cost_usd": row.cost.usd(),
        "error_code": error_code,
        "error": error,
        "images": [_manifest_image(image, bucket=bucket, links=links) for image in row.images],
    }


def _manifest_image(
    outcome: ImageOutcome, *, bucket: str, links: Mapping[str, SignedLink]
) -> dict[str, object]:
    facts = outcome.model_dump(
        mode="json", exclude={"scene_id", "row_number", "image", "cost", "code", "detail"}
    )
    image, thumbnail = _object_names(outcome)
    link = links.get(image)
    return {
        **facts,
        "cost_usd": outcome.cost.usd(),
        "error_code": outcome.code,
        "error": outcome.detail,
        "image_uri": _uri(bucket, image) or None,
        "thumbnail_uri": _uri(bucket, thumbnail) or None,
        "link": {"signer": link.signer, "expires_at": link.expires_at} if link else None,
        "file": outcome.image.model_dump(mode="json", exclude={"object_name", "thumbnail_name"})
        if outcome.image is not None
        else None,
    }
