"""What the provider stub can answer: each case of both vendors' error tables, by name.

The names of `SHARED` mean the same in both protocols, so that a soak can mix them without
knowing which provider asks. Upstream texts hold `UPSTREAM_MARK`: nothing of ours may show it.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from assetgen_pipeline.testing.pictures import one_colour_png

UPSTREAM_MARK = "upstream-text-that-nobody-may-see"

Wire = Literal["whole", "never", "drop", "partial"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StubRequest:
    """One request as the stub received it."""

    number: int
    protocol: Literal["gemini", "openai"]
    path: str
    model: str
    prompt: str
    references: tuple[bytes, ...]
    size: tuple[int, int]
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    attempt_id: str

    def picture(self) -> bytes:
        """An image of the shape asked for, its colour from the request's number and prompt."""
        return one_colour_png(*self.size, seed=f"{self.number}:{self.prompt}".encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class StubAnswer:
    """What goes back, and whether the request is billed all the same."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    wire: Wire = "whole"
    billed: bool = False
    images: int = 0
    """Images that were made, delivered or not."""


Answering = Callable[[StubRequest], StubAnswer]


def as_json(document: object, **facts: Any) -> StubAnswer:  # noqa: ANN401 - fields of several types
    """An answer with a JSON body."""
    headers = {"Content-Type": "application/json", **facts.pop("headers", {})}
    return StubAnswer(body=json.dumps(document).encode(), headers=headers, **facts)


def page(status: int) -> StubAnswer:
    """What a proxy in front of the API answers: HTML."""
    body = f"<html><body>{UPSTREAM_MARK}</body></html>".encode()
    return StubAnswer(status=status, body=body, headers={"Content-Type": "text/html"})


def base64_text(data: bytes) -> str:
    """Bytes as both protocols carry them."""
    return base64.b64encode(data).decode()


def _redirected(_request: StubRequest) -> StubAnswer:
    return StubAnswer(status=307, headers={"Location": "/elsewhere"})


# What happens on the way, whatever is spoken. A request that may have been billed counts
# as billed: nobody can know, and the ledger assumes so too.
ON_THE_WAY: Mapping[str, Answering] = {
    "never": lambda _: StubAnswer(wire="never", billed=True),
    "drop": lambda _: StubAnswer(wire="drop", billed=True, images=1),
    "bad_gateway": lambda _: page(502),
    "gateway_timeout": lambda _: StubAnswer(
        status=504, body=page(504).body, headers={"Content-Type": "text/html"}, billed=True
    ),
    "not_json": lambda _: StubAnswer(
        status=200, body=page(200).body, headers={"Content-Type": "text/html"}, billed=True
    ),
    "redirect": _redirected,
}

SHARED = (
    *ON_THE_WAY,
    *("ok", "ok_without_usage", "partial", "not_an_image", "not_base64", "blocked", "no_image"),
    *("rate_limited", "quota", "auth", "forbidden", "invalid", "too_large", "model_retired"),
    *("internal", "overloaded"),
)
