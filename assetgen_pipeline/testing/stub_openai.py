"""The OpenAI Images API as the provider stub speaks it: generations and multipart edits."""

import json
import re
from collections.abc import Mapping
from typing import Any

from assetgen_pipeline.testing.stub_answers import (
    ON_THE_WAY,
    UPSTREAM_MARK,
    Answering,
    StubAnswer,
    StubRequest,
    as_json,
    base64_text,
)

PATH = re.compile(r"\A/v1/images/(?P<kind>generations|edits)\Z")
IMAGE_TOKENS = 1056
REFERENCE_TOKENS = 700
PROMPT_TOKENS = 15


def read_body(
    content_type: str, body: bytes
) -> tuple[dict[str, Any], tuple[bytes, ...], tuple[str, ...]]:
    """Fields, files and the names of the file fields of a request, JSON or multipart."""
    if not content_type.startswith("multipart/"):
        return json.loads(body), (), ()
    boundary = content_type.rpartition("boundary=")[2].strip('"').encode()
    fields: dict[str, Any] = {}
    files: list[bytes] = []
    names: list[str] = []
    for part in body.split(b"--" + boundary)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = re.search(rb'[; ]name="([^"]*)"', head)
        label = name[1].decode() if name else ""
        if b"filename=" in head:
            files.append(content.removesuffix(b"\r\n"))
            names.append(label)
        else:
            fields[label] = content.removesuffix(b"\r\n").decode()
    return fields, tuple(files), tuple(names)


def size_of(text: str) -> tuple[int, int]:
    """Width and height of `1024x576`, square where the server is left to choose."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (1024, 1024)


def usage(request: StubRequest) -> dict[str, Any]:
    """The token counts of a request; no details of the output, as the real endpoints do."""
    references = REFERENCE_TOKENS * len(request.references)
    return {
        "input_tokens": PROMPT_TOKENS + references,
        "input_tokens_details": {"text_tokens": PROMPT_TOKENS, "image_tokens": references},
        "output_tokens": IMAGE_TOKENS,
        "total_tokens": PROMPT_TOKENS + references + IMAGE_TOKENS,
    }


def _document(request: StubRequest, image: Mapping[str, str] | None, **more: object) -> Any:  # noqa: ANN401
    return {"created": request.number, "data": [image] if image else [], **more}


def _ok(request: StubRequest) -> StubAnswer:
    image = {"b64_json": base64_text(request.picture())}
    document = _document(request, image, usage=usage(request))
    headers = {"x-request-id": f"req_{request.number}"}
    return as_json(document, billed=True, images=1, headers=headers)


def _ok_without_usage(request: StubRequest) -> StubAnswer:
    document = _document(request, {"b64_json": base64_text(request.picture())})
    return as_json(document, billed=True, images=1)


def _ok_and_used_up(request: StubRequest) -> StubAnswer:
    whole = _ok(request)
    limits = {
        "x-ratelimit-limit-images": "5",
        "x-ratelimit-remaining-images": "0",
        "x-ratelimit-reset-images": "1m12.5s",
    }
    return StubAnswer(body=whole.body, headers={**whole.headers, **limits}, billed=True, images=1)


def _partial(request: StubRequest) -> StubAnswer:
    whole = _ok(request)
    return StubAnswer(body=whole.body, headers=whole.headers, wire="partial", billed=True, images=1)


def _url(where: str) -> Answering:
    def answer(request: StubRequest) -> StubAnswer:
        url = where.format(host=request.headers.get("host", ""), number=request.number)
        return as_json(_document(request, {"url": url}), billed=True, images=1)

    return answer


def _with_data(data: str) -> Answering:
    def answer(request: StubRequest) -> StubAnswer:
        document = _document(request, {"b64_json": data}, usage=usage(request))
        return as_json(document, billed=True)

    return answer


def _nothing(request: StubRequest) -> StubAnswer:
    return as_json(_document(request, None, usage=usage(request)), billed=True)


def _odd_usage(request: StubRequest) -> StubAnswer:
    odd = {"input_tokens": -5, "output_tokens": "many", "total_tokens": 10**30}
    document = _document(request, {"b64_json": base64_text(request.picture())}, usage=odd)
    return as_json(document, billed=True, images=1)


def _error(
    status: int,
    code: str | None,
    *,
    kind: str = "",
    headers: Mapping[str, str] | None = None,
    billed: bool = False,
) -> Answering:
    error = {"message": UPSTREAM_MARK, "type": kind or "api_error", "code": code, "param": None}
    made = as_json({"error": error}, status=status, headers=headers or {}, billed=billed)
    return lambda _request: made


def _detail(status: int) -> Answering:
    """What FastAPI servers answer instead of OpenAI's shape."""
    made = as_json({"detail": UPSTREAM_MARK}, status=status)
    return lambda _request: made


_LIMITS = {
    "x-ratelimit-limit-requests": "500",
    "x-ratelimit-remaining-requests": "499",
    "x-ratelimit-reset-requests": "120ms",
    "x-ratelimit-limit-images": "5",
    "x-ratelimit-remaining-images": "0",
    "x-ratelimit-reset-images": "6m0s",
}
_SLOW_DOWN = "rate_limit_exceeded"
OPENAI_ANSWERS: Mapping[str, Answering] = {
    **ON_THE_WAY,
    "ok": _ok,
    "ok_without_usage": _ok_without_usage,
    "ok_odd_usage": _odd_usage,
    "ok_and_used_up": _ok_and_used_up,
    "ok_url": _url("http://{host}/images/{number}.png"),
    "ok_private_url": _url("http://169.254.169.254/{number}.png"),
    "partial": _partial,
    "not_an_image": _with_data(base64_text(b"not an image")),
    "not_base64": _with_data("%%% not base64 %%%"),
    "no_image": _nothing,
    "blocked": _error(400, "moderation_blocked", kind="image_generation_user_error"),
    "content_policy": _error(400, "content_policy_violation"),
    "blocked_by_relay": _error(451, None),
    "invalid": _error(400, "invalid_value"),
    "unknown_parameter": _error(400, "unknown_parameter"),
    "auth": _error(401, "invalid_api_key"),
    "credit_empty": _error(402, None),
    "forbidden": _error(403, "unsupported_country_region_territory"),
    "model_retired": _error(404, "model_not_found"),
    "request_timeout": _error(408, None),
    "conflict": _error(409, None),
    "too_large": _error(413, None),
    "unprocessable": _detail(422),
    "detail_500": _detail(500),
    "rate_limited": _error(429, _SLOW_DOWN, headers={"Retry-After": "7"}),
    "rate_limited_to_the_ms": _error(429, _SLOW_DOWN, headers={"retry-after-ms": "1500"}),
    "rate_limited_by_limits": _error(429, _SLOW_DOWN, headers=_LIMITS),
    "shared_quota": _error(429, None),
    "quota": _error(429, "insufficient_quota", kind="insufficient_quota"),
    "spend_limit": _error(429, "billing_hard_limit_reached"),
    "spend_limit_400": _error(400, "billing_hard_limit_reached"),
    "internal": _error(500, None, kind="server_error"),
    "overloaded": _error(503, None),
    "overloaded_529": _error(529, None),
    "deadline": _error(504, None, billed=True),
    "edge_timeout": lambda _: StubAnswer(status=524, billed=True),
    "edge_unreachable": lambda _: StubAnswer(status=522),
}
