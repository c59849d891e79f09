"""Hosted providers opened against the provider stub, and what to ask them."""

import itertools
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, NamedTuple

import google.oauth2.credentials
import pytest

from assetgen_pipeline.adapters.catalogue import load_catalogue
from assetgen_pipeline.adapters.providers.gemini import GeminiAccess, GeminiProvider
from assetgen_pipeline.adapters.providers.openai_compatible import OpenAiProvider
from assetgen_pipeline.domain.budget import AttemptToken
from assetgen_pipeline.domain.generation import PlannedImage, ProviderError, image_id_of
from assetgen_pipeline.domain.image_request import AspectRatio, ReferenceMode
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.stub_answers import UPSTREAM_MARK

GEMINI, OPENAI = "gemini-nano-banana-2.1", "gpt-image-2"
CATALOGUE = load_catalogue()
JPEG, PNG = b"\xff\xd8\xff a photo", b"\x89PNG\r\n\x1a\n a drawing"
_numbers = itertools.count(1)


def token(*, attempt_no=1):
    """The token of a new attempt."""
    return AttemptToken.mint(
        attempt_id=f"attempt-{next(_numbers)}", attempt_no=attempt_no, ceiling=Money(1)
    )


def planned(prompt="a kitchen", *, model="m", **changes):
    image = PlannedImage(
        image_id="",
        row_number=1,
        scene_id="S1",
        prompt=prompt,
        references=(),
        provider="any",
        model=model,
        **{
            "variant": 1,
            "aspect_ratio": AspectRatio.SQUARE,
            "reference_mode": ReferenceMode.STYLE_ONLY,
            **changes,
        },
    )
    return image.model_copy(update={"image_id": image_id_of(image)})


def gemini_price(*, timeout_s=30.0, options=None, **capabilities):
    return _changed(CATALOGUE.price("gemini", GEMINI), timeout_s, options, capabilities)


def openai_price(*, timeout_s=30.0, options=None, **capabilities):
    return _changed(CATALOGUE.price("openai", OPENAI), timeout_s, options, capabilities)


def open_gemini(url, *, price=None, key="key-of-ours", **more):
    return GeminiProvider(
        GeminiAccess(api_key=key, base_url=url),
        price=price or gemini_price(),
        clock=ManualClock(),
        **more,
    )


def open_vertex(url, *, price=None, credentials=None):
    access = GeminiAccess(
        vertex=True,
        project="project-of-ours",
        credentials=credentials or google.oauth2.credentials.Credentials(token="token-of-ours"),
        base_url=url,
    )
    return GeminiProvider(access, price=price or gemini_price(), clock=ManualClock())


def open_openai(url, *, price=None, key="key-of-ours", **more):
    return OpenAiProvider(
        api_key=key, base_url=url, price=price or openai_price(), clock=ManualClock(), **more
    )


def _changed(price, timeout_s, options, capabilities):
    able = price.capabilities.model_copy(update={"timeout_s": timeout_s, **capabilities})
    sent = price.options.model_copy(update=options or {})
    return price.model_copy(update={"capabilities": able, "options": sent})


async def ask(provider, image=None, references=(), made=None):
    """One attempt at one image of the provider's model, and the provider closed."""
    async with aclosing(provider):
        return await provider.generate(
            image or planned(model=provider._price.model), list(references), made or token()
        )


async def failed(provider, **more):
    """What an attempt failed with."""
    with pytest.raises(ProviderError) as caught:
        await ask(provider, **more)
    return caught.value


def assert_nothing_of_upstreams(error, caplog):
    """Neither the error nor the log shows what upstream said, or our key."""
    shown = f"{error} {error!r} {error.__cause__!r} {error.request_id} {caplog.text}"
    assert UPSTREAM_MARK not in shown
    assert "key-of-ours" not in shown
    assert error.__suppress_context__ or error.__context__ is None


class Hosted(NamedTuple):
    """One way to a hosted provider: how it is opened, its prices, and its path of the stub."""

    open: Callable[..., Any]
    price: Callable[..., Any]
    path: str = ""

    def at(self, stub, **changes):
        """Opened against the stub, its model's capabilities changed."""
        return self.open(stub.url + self.path, price=self.price(**changes))


HOSTED = {
    "gemini": Hosted(open_gemini, gemini_price),
    "vertex": Hosted(open_vertex, gemini_price),
    "openai": Hosted(open_openai, openai_price, "/v1"),
}
