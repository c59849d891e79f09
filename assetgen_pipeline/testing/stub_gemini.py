"""The Gemini API as the provider stub speaks it: `generateContent`, on both of its paths."""

import base64
import re
from collections.abc import Mapping
from typing import Any

from assetgen_pipeline.domain.image_request import AspectRatio
from assetgen_pipeline.testing.stub_answers import (
    ON_THE_WAY,
    UPSTREAM_MARK,
    Answering,
    StubAnswer,
    StubRequest,
    as_json,
    base64_text,
)

PATH = re.compile(
    r"\A/(?:v1|v1beta|v1beta1)/(?:projects/[^/]+/locations/[^/]+/publishers/google/)?"
    r"models/(?P<model>[^/:]+):generateContent\Z"
)
IMAGE_TOKENS = 1120
REFERENCE_TOKENS = 1120
PROMPT_TOKENS = 12
THINKING_TOKENS = 90


def read_body(body: Mapping[str, Any]) -> tuple[str, tuple[bytes, ...], AspectRatio]:
    """Prompt, references and aspect ratio of a request."""
    parts = [part for content in body["contents"] for part in content["parts"]]
    config = body.get("generationConfig", {})
    ratio = config.get("imageConfig", {}).get("aspectRatio", "1:1")
    return (
        "\n".join(part["text"] for part in parts if "text" in part),
        tuple(
            base64.urlsafe_b64decode(p["inlineData"]["data"]) for p in parts if "inlineData" in p
        ),
        AspectRatio(ratio),
    )


def usage(request: StubRequest, *, image: int = IMAGE_TOKENS) -> dict[str, Any]:
    """The token counts of a request, by modality."""
    references = REFERENCE_TOKENS * len(request.references)
    details = [{"modality": "TEXT", "tokenCount": PROMPT_TOKENS}]
    if references:
        details.append({"modality": "IMAGE", "tokenCount": references})
    counts: dict[str, Any] = {
        "promptTokenCount": PROMPT_TOKENS + references,
        "promptTokensDetails": details,
        "thoughtsTokenCount": THINKING_TOKENS,
        "totalTokenCount": PROMPT_TOKENS + references + THINKING_TOKENS + image,
    }
    if image:
        counts["candidatesTokenCount"] = image
        counts["candidatesTokensDetails"] = [{"modality": "IMAGE", "tokenCount": image}]
    return counts


def _document(
    request: StubRequest, parts: list[dict[str, Any]], *, finish: str = "STOP", **more: object
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"finishReason": finish, "index": 0}
    if parts:
        candidate["content"] = {"role": "model", "parts": parts}
    return {
        "candidates": [candidate],
        "modelVersion": request.model,
        "responseId": f"stub-{request.number}",
        **more,
    }


def _image_part(data: bytes) -> dict[str, Any]:
    # The type is wrong on purpose: what counts is what the bytes are.
    return {"inlineData": {"mimeType": "image/jpeg", "data": base64_text(data)}}


def _ok(request: StubRequest) -> StubAnswer:
    parts = [_image_part(request.picture())]
    document = _document(request, parts, usageMetadata=usage(request))
    return as_json(document, billed=True, images=1)


def _ok_without_usage(request: StubRequest) -> StubAnswer:
    return as_json(_document(request, [_image_part(request.picture())]), billed=True, images=1)


def _partial(request: StubRequest) -> StubAnswer:
    whole = _ok(request)
    return StubAnswer(body=whole.body, headers=whole.headers, wire="partial", billed=True, images=1)


def _drafts_first(request: StubRequest) -> StubAnswer:
    draft = {**_image_part(b"a draft that nobody wants"), "thought": True}
    parts = [draft, {"text": "Here it is."}, _image_part(request.picture()), draft]
    document = _document(request, parts, usageMetadata=usage(request))
    return as_json(document, billed=True, images=1)


def _with_data(data: str) -> Answering:
    def answer(request: StubRequest) -> StubAnswer:
        part = {"inlineData": {"mimeType": "image/png", "data": data}}
        document = _document(request, [part], usageMetadata=usage(request))
        return as_json(document, billed=True)

    return answer


def _finished(finish: str, *, text: str = "", image: int = 0) -> Answering:
    """No image, ended for a reason, with what it used."""

    def answer(request: StubRequest) -> StubAnswer:
        parts = [{"text": text}] if text else []
        used = usage(request, image=image)
        document = _document(
            request, parts, finish=finish, usageMetadata=used, finishMessage=UPSTREAM_MARK
        )
        return as_json(document, billed=True)

    return answer


def _continued(request: StubRequest) -> StubAnswer:
    document = _document(
        request, [{"text": "…"}], finish="CONTINUATION", usageMetadata=usage(request, image=0)
    )
    document["candidates"][0]["continuationToken"] = base64_text(b"go on")
    return as_json(document, billed=True)


def _prompt_blocked(*, used: bool) -> Answering:
    def answer(request: StubRequest) -> StubAnswer:
        feedback = {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": UPSTREAM_MARK}
        document: dict[str, Any] = {"promptFeedback": feedback, "modelVersion": request.model}
        if used:
            document["usageMetadata"] = {
                "promptTokenCount": PROMPT_TOKENS,
                "totalTokenCount": PROMPT_TOKENS,
            }
        return as_json(document, billed=used)

    return answer


def _blocked_without_usage(request: StubRequest) -> StubAnswer:
    return as_json(_document(request, [], finish="IMAGE_SAFETY"), billed=True)


def _error(
    code: int,
    status: str,
    *details: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
    message: str = "",
    billed: bool = False,
) -> Answering:
    error = {
        "code": code,
        "status": status,
        "message": f"{UPSTREAM_MARK} {message}",
        "details": list(details),
    }
    made = as_json({"error": error}, status=code, headers=headers or {}, billed=billed)
    return lambda _request: made


def _reason(reason: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}


def _quota(quota_id: str, value: str = "10") -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"quotaId": quota_id, "quotaValue": value}],
    }


def _wait(delay: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


_USED_UP = "RESOURCE_EXHAUSTED"
_BAD = "INVALID_ARGUMENT"
_PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel"
GEMINI_ANSWERS: Mapping[str, Answering] = {
    **ON_THE_WAY,
    "ok": _ok,
    "ok_without_usage": _ok_without_usage,
    "partial": _partial,
    "drafts_first": _drafts_first,
    "not_an_image": _with_data(base64_text(b"not an image")),
    "not_base64": _with_data("%%% not base64 %%%"),
    "no_image": _finished("NO_IMAGE"),
    "only_text": _finished("STOP", text="I would rather talk."),
    "nothing": _finished("STOP"),
    "image_other": _finished("IMAGE_OTHER"),
    "other": _finished("OTHER"),
    "malformed_response": _finished("MALFORMED_RESPONSE"),
    "max_tokens": _finished("MAX_TOKENS", image=400),
    "continuation": _continued,
    "brand_new_reason": _finished("BRAND_NEW_REASON"),
    "prompt_blocked": _prompt_blocked(used=False),
    "prompt_blocked_billed": _prompt_blocked(used=True),
    "blocked": _finished("IMAGE_SAFETY", image=IMAGE_TOKENS),
    "blocked_without_usage": _blocked_without_usage,
    "image_prohibited": _finished("IMAGE_PROHIBITED_CONTENT"),
    "prohibited": _finished("PROHIBITED_CONTENT"),
    "safety": _finished("SAFETY"),
    "personal_data": _finished("SPII"),
    "blocklist": _finished("BLOCKLIST"),
    "image_recitation": _finished("IMAGE_RECITATION"),
    "recitation": _finished("RECITATION"),
    "disabled": _finished("PUP_LIMITED_DISABLED"),
    "key_invalid": _error(400, _BAD, _reason("API_KEY_INVALID")),
    "invalid": _error(400, _BAD),
    "precondition": _error(400, "FAILED_PRECONDITION"),
    "auth": _error(401, "UNAUTHENTICATED"),
    "forbidden": _error(403, "PERMISSION_DENIED"),
    "credit_empty": _error(402, _USED_UP),
    "model_retired": _error(404, "NOT_FOUND"),
    "too_large": _error(413, _BAD),
    "rate_limited": _error(429, _USED_UP, _quota(_PER_MINUTE), _wait("37.4s")),
    "rate_limited_by_header": _error(429, _USED_UP, headers={"Retry-After": "21"}),
    "rate_limited_in_words": _error(429, _USED_UP, message="Please retry in 12.5s."),
    "shared_quota": _error(429, _USED_UP),
    "quota": _error(429, _USED_UP, _quota("GenerateRequestsPerDayPerProjectPerModel")),
    "free_tier": _error(429, _USED_UP, _quota(_PER_MINUTE, "0"), message="limit: 0"),
    "spend_limit": _error(429, _USED_UP, _quota("SpendPerMonthPerProject")),
    "cancelled": _error(499, "CANCELLED", billed=True),
    "internal": _error(500, "INTERNAL"),
    "overloaded": _error(503, "UNAVAILABLE"),
    "overloaded_529": _error(529, "UNAVAILABLE"),
    "deadline": _error(504, "DEADLINE_EXCEEDED", billed=True),
}
