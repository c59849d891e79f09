"""What answers of the OpenAI Images API and of compatible servers mean.

Read defensively: servers leave fields out, add their own and answer errors in other shapes.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import openai

from assetgen_pipeline.adapters.provider_failures import failure, http_failure, status_kind
from assetgen_pipeline.adapters.retry_hints import retry_after_s, used_up_s
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.pricing import ModelPrice, TokenUsage, usage_cost

_MOST_TOKENS = 10**8
_NOT_FOUND = 404
_BY_CODE: Mapping[str, ErrorKind] = {
    "moderation_blocked": ErrorKind.CONTENT_BLOCKED,
    "content_policy_violation": ErrorKind.CONTENT_BLOCKED,
    "content_filter": ErrorKind.CONTENT_BLOCKED,
    "insufficient_quota": ErrorKind.QUOTA_EXHAUSTED,
    "billing_hard_limit_reached": ErrorKind.QUOTA_EXHAUSTED,
    "billing_not_active": ErrorKind.QUOTA_EXHAUSTED,
    "invalid_api_key": ErrorKind.AUTH,
    "account_deactivated": ErrorKind.AUTH,
    "model_not_found": ErrorKind.FATAL_CONFIG,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAnswer:
    """What one answer held: the image or where it is, and what it used."""

    data: bytes | None
    url: str
    usage: TokenUsage | None
    usage_report: str


def read_answer(body: bytes, price: ModelPrice) -> ImageAnswer:
    """Read an answer that came with HTTP 200.

    Raises:
        ProviderError: of kind `bad_output` or `no_output`, with what was used all the same.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise failure(ErrorKind.BAD_OUTPUT) from None
    if not isinstance(document, dict):
        raise failure(ErrorKind.BAD_OUTPUT)
    report = document.get("usage")
    usage = token_usage(report)
    cost = usage_cost(price.rates, usage) if usage and price.rates else None
    data, url = _image(document, cost)
    return ImageAnswer(
        data=data, url=url, usage=usage, usage_report=json.dumps(report) if usage else ""
    )


def token_usage(report: object) -> TokenUsage | None:
    """Tokens by modality; None where nothing sane is reported.

    Without details of the output, which is how the endpoints answer, all of it is image.
    """
    if not isinstance(report, Mapping):
        return None
    given = _section(report, "input_tokens_details")
    made = _section(report, "output_tokens_details")
    cached = _section(given, "cached_tokens_details")
    counts = [
        _count(report.get("input_tokens")),
        _count(report.get("output_tokens")),
        _count(given.get("image_tokens", 0)),
        _count(given.get("cached_tokens", 0)),
        _count(cached.get("image_tokens", 0)),
        _count(made.get("text_tokens", 0)),
    ]
    if any(count is None for count in counts):
        return None
    total_in, total_out, images, cached_all, cached_images, text_out = (c or 0 for c in counts)
    images = min(images, total_in)
    cached_all = min(cached_all, total_in)
    cached_images = min(cached_images, cached_all, images)
    cached_text = min(cached_all - cached_images, total_in - images)
    text_out = min(text_out, total_out)
    return TokenUsage(
        text_in=total_in - images - cached_text,
        image_in=images - cached_images,
        cached_text_in=cached_text,
        cached_image_in=cached_images,
        image_out=total_out - text_out,
        text_out=text_out,
    )


def error_answer(
    error: openai.APIStatusError,
    headers: Mapping[str, str],
    *,
    now: datetime,
    alternatives: Sequence[str] = (),
    billed_errors: tuple[int, ...] = (),
) -> ProviderError:
    """What an HTTP error answer means: the vendor's code goes before the status."""
    body = error.body if isinstance(error.body, Mapping) else {}
    codes = [body.get("code"), body.get("type"), body.get("param")]
    status = error.status_code
    by_code = [_BY_CODE[code] for code in codes[:2] if isinstance(code, str) and code in _BY_CODE]
    hint = ""
    if status == _NOT_FOUND and alternatives:
        hint = f"models that should work: {', '.join(alternatives)}"
    after = retry_after_s(headers, now=now)
    return http_failure(
        next(iter(by_code), status_kind(status)),
        status,
        *codes,
        hint=hint,
        retry_after_s=used_up_s(headers) if after is None else after,
        request_id=headers.get("x-request-id"),
        billed_errors=billed_errors,
    )


def _image(document: Mapping[str, Any], cost: Money | None) -> tuple[bytes | None, str]:
    images = document.get("data")
    image = images[0] if isinstance(images, list) and images else None
    if not isinstance(image, Mapping):
        raise failure(ErrorKind.NO_OUTPUT, cost=cost)
    text, url = image.get("b64_json"), image.get("url")
    if isinstance(text, str) and text:
        try:
            return base64.b64decode(text, validate=True), ""
        except (binascii.Error, ValueError):
            raise failure(ErrorKind.BAD_OUTPUT, said="not base64", cost=cost) from None
    if isinstance(url, str) and url:
        return None, url
    raise failure(ErrorKind.NO_OUTPUT, cost=cost)


def _section(report: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = report.get(name)
    return found if isinstance(found, Mapping) else {}


def _count(value: object) -> int | None:
    if type(value) is int and 0 <= value <= _MOST_TOKENS:
        return value
    return None
