"""What Gemini's answers mean: finish reasons, error details, token counts."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from google.genai import errors, types

from assetgen_pipeline.adapters.provider_failures import (
    clean_code,
    failure,
    http_failure,
    status_kind,
)
from assetgen_pipeline.adapters.retry_hints import duration_s, retry_after_s, retry_in_words_s
from assetgen_pipeline.domain.generation import Billing, ErrorKind, ProviderError
from assetgen_pipeline.domain.pricing import ModelPrice, TokenUsage, usage_cost

_MOST_TOKENS = 10**8
_BLOCKED = frozenset(
    {
        *("SAFETY", "IMAGE_SAFETY", "PROHIBITED_CONTENT", "IMAGE_PROHIBITED_CONTENT"),
        *("SPII", "BLOCKLIST", "MODEL_ARMOR", "ESCALATION", "RECITATION", "IMAGE_RECITATION"),
    }
)
# Everything else that brings no image counts as no output: also reasons that are new.
_BY_FINISH: Mapping[str, ErrorKind] = {
    **dict.fromkeys(_BLOCKED, ErrorKind.CONTENT_BLOCKED),
    "PUP_LIMITED_DISABLED": ErrorKind.AUTH,
}
_BAD_REQUEST, _NOT_FOUND, _TOO_MANY = 400, 404, 429
_LASTING = ("perday", "permonth", "spend")


def delivered_image(response: types.GenerateContentResponse) -> bytes | None:
    """The last image that is no draft of the model's thinking."""
    parts = [
        part
        for candidate in response.candidates or []
        for part in (candidate.content.parts if candidate.content else None) or []
        if not part.thought and part.inline_data and part.inline_data.data
    ]
    return parts[-1].inline_data.data if parts and parts[-1].inline_data else None


def no_image(
    response: types.GenerateContentResponse, price: ModelPrice, *, references: int
) -> ProviderError:
    """Why an answer has no image, and what it cost all the same."""
    usage = token_usage(response.usage_metadata, references=references)
    cost = usage_cost(price.rates, usage) if usage and price.rates else None
    feedback = response.prompt_feedback
    if feedback is not None and feedback.block_reason is not None:
        # Refused before anything was generated: without usage there is nothing to bill.
        billing = Billing.NOT_BILLED if usage is None else Billing.BILLED
        return failure(
            ErrorKind.CONTENT_BLOCKED,
            said=", ".join(filter(None, ("prompt", clean_code(feedback.block_reason.value)))),
            billing=billing,
            cost=cost,
            request_id=response.response_id,
        )
    reasons = [c.finish_reason.value for c in response.candidates or [] if c.finish_reason]
    reason = next(iter(reasons), "")
    return failure(
        _BY_FINISH.get(reason, ErrorKind.NO_OUTPUT),
        said=clean_code(reason),
        billing=Billing.BILLED,
        cost=cost,
        request_id=response.response_id,
    )


def token_usage(
    counts: types.GenerateContentResponseUsageMetadata | None, *, references: int
) -> TokenUsage | None:
    """Tokens by modality; None where nothing sane is reported."""
    if counts is None or not _sane(counts):
        return None
    prompt = (counts.prompt_token_count or 0) + (counts.tool_use_prompt_token_count or 0)
    cached = min(counts.cached_content_token_count or 0, prompt)
    details = counts.prompt_tokens_details
    # Without details, a request with references is all image: the dearer of the two.
    images = _images(details) if details else (prompt if references else 0)
    image_in = min(images, prompt)
    cached_images = min(_images(counts.cache_tokens_details), cached, image_in)
    cached_text = min(cached - cached_images, prompt - image_in)
    made = counts.candidates_token_count or 0
    image_out = min(_images(counts.candidates_tokens_details), made) or made
    return TokenUsage(
        text_in=prompt - image_in - cached_text,
        image_in=image_in - cached_images,
        cached_text_in=cached_text,
        cached_image_in=cached_images,
        image_out=image_out,
        text_out=made - image_out + (counts.thoughts_token_count or 0),
    )


def error_answer(
    error: errors.APIError,
    headers: Mapping[str, str],
    *,
    now: datetime,
    alternatives: Sequence[str] = (),
    billed_errors: tuple[int, ...] = (),
) -> ProviderError:
    """What an HTTP error answer means."""
    inner = _inner(error)
    details = _mappings(inner.get("details"))
    reasons = [detail.get("reason") for detail in details]
    words = error.message if isinstance(error.message, str) else ""
    kind = status_kind(error.code)
    if error.code == _BAD_REQUEST and _is_account(inner.get("status"), reasons):
        kind = ErrorKind.AUTH
    elif error.code == _TOO_MANY and _is_used_up(details, words):
        kind = ErrorKind.QUOTA_EXHAUSTED
    hint = ""
    if error.code == _NOT_FOUND and alternatives:
        hint = f"models that should work: {', '.join(alternatives)}"
    return http_failure(
        kind,
        error.code,
        inner.get("status"),
        *reasons,
        hint=hint,
        retry_after_s=_retry_after_s(details, headers, words, now=now),
        request_id=headers.get("x-request-id"),
        billed_errors=billed_errors,
    )


def _is_account(status: object, reasons: Iterable[object]) -> bool:
    """A key that is wrong, or billing or region that keep the account out."""
    return status == "FAILED_PRECONDITION" or any(
        isinstance(reason, str) and reason.startswith("API_KEY_") for reason in reasons
    )


def _is_used_up(details: Iterable[Mapping[str, Any]], words: str) -> bool:
    """A limit that waiting a minute does not lift."""
    violations = [
        violation for detail in details for violation in _mappings(detail.get("violations"))
    ]
    return "limit: 0" in words or any(
        str(violation.get("quotaValue")) == "0"
        or any(mark in str(violation.get("quotaId", "")).lower() for mark in _LASTING)
        for violation in violations
    )


def _retry_after_s(
    details: Iterable[Mapping[str, Any]], headers: Mapping[str, str], words: str, *, now: datetime
) -> float | None:
    for detail in details:
        if str(detail.get("@type", "")).endswith("google.rpc.RetryInfo"):
            waited = duration_s(str(detail.get("retryDelay", "")))
            if waited is not None:
                return waited
    after = retry_after_s(headers, now=now)
    return retry_in_words_s(words) if after is None else after


def _inner(error: errors.APIError) -> Mapping[str, Any]:
    """The error as Google shapes it; nothing where a proxy answered instead."""
    body = error.details
    inner = body.get("error") if isinstance(body, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _mappings(found: object) -> list[Mapping[str, Any]]:
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _images(details: Sequence[types.ModalityTokenCount] | None) -> int:
    return sum(
        detail.token_count or 0
        for detail in details or []
        if detail.modality is types.MediaModality.IMAGE
    )


def _sane(counts: types.GenerateContentResponseUsageMetadata) -> bool:
    details = (
        *(counts.prompt_tokens_details or ()),
        *(counts.candidates_tokens_details or ()),
        *(counts.cache_tokens_details or ()),
    )
    numbers = [
        counts.prompt_token_count,
        counts.tool_use_prompt_token_count,
        counts.cached_content_token_count,
        counts.candidates_token_count,
        counts.thoughts_token_count,
        *(detail.token_count for detail in details),
    ]
    return any(numbers) and all(0 <= number <= _MOST_TOKENS for number in numbers if number)
