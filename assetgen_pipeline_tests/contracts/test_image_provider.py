"""What every image provider keeps to: local, hosted (against the stub) or scripted."""

import asyncio
import io
from contextlib import aclosing

import pytest
from PIL import Image

from assetgen_pipeline.adapters.catalogue import load_catalogue
from assetgen_pipeline.adapters.providers.local_renderer import LocalRenderer
from assetgen_pipeline.domain.generation import Billing, ErrorKind, ProviderError
from assetgen_pipeline.domain.image_request import AspectRatio
from assetgen_pipeline.domain.money import ZERO
from assetgen_pipeline.domain.pricing import ceiling
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.provider_stub import ProviderStub
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.hosted_providers import (
    GEMINI,
    OPENAI,
    gemini_price,
    open_gemini,
    open_openai,
    open_vertex,
    planned,
    token,
)

LOCAL = load_catalogue().price("local", "storyboard-1")


def a_reference():
    """A real picture, for those that look into it."""
    data = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(data, "PNG")
    return data.getvalue()


class Subject:
    """A kind of provider: how to open it failing or not, and what its images may cost."""

    def __init__(self, kind, stub):
        self.kind = kind
        self.stub = stub
        prices = {"gemini": gemini_price(), "vertex": gemini_price()}
        catalogue = load_catalogue()
        self.price = prices.get(kind, LOCAL)
        if kind == "openai":
            self.price = catalogue.price("openai", OPENAI)
        self.model = {"gemini": GEMINI, "vertex": GEMINI, "openai": OPENAI}.get(kind, "m")

    def open(self, *, failing=False):
        if failing:
            self.stub.always("internal")
        if self.kind == "local_renderer":
            rate = 1.0 if failing else 0.0
            return LocalRenderer(price=LOCAL, clock=ManualClock(), failure_rate=rate)
        if self.kind == "scripted":
            error = ProviderError("unavailable", kind=ErrorKind.TRANSIENT)
            return ScriptedProvider(default=[error] if failing else [])
        if self.kind == "openai":
            return open_openai(self.stub.openai_url)
        return {"gemini": open_gemini, "vertex": open_vertex}[self.kind](self.stub.url)

    def planned(self, *args, **changes):
        return planned(*args, model=self.model, **changes)


@pytest.fixture(params=["local_renderer", "scripted", "gemini", "vertex", "openai"])
def subject(request):
    with ProviderStub() as stub:
        yield Subject(request.param, stub)


@pytest.mark.parametrize("aspect", list(AspectRatio))
async def test_the_image_decodes_and_has_the_shape_asked_for(subject, aspect):
    asked = subject.planned(aspect_ratio=aspect)
    async with aclosing(subject.open()) as provider:
        result = await provider.generate(asked, [], token())
    with Image.open(io.BytesIO(result.data)) as image:
        image.load()
        width, height = asked.size_px
        assert image.width / image.height == pytest.approx(width / height, rel=0.03)


@pytest.mark.parametrize("count", [0, 1, 6])
async def test_the_cost_is_stated_and_within_the_ceiling(subject, count):
    async with aclosing(subject.open()) as provider:
        result = await provider.generate(subject.planned(), [a_reference()] * count, token())
    assert ZERO < result.cost <= ceiling(subject.price, prompt="a kitchen", references=count)
    assert result.cost_basis in {"usage", "flat"}


async def test_variants_of_a_row_are_different_images(subject):
    async with aclosing(subject.open()) as provider:
        one = await provider.generate(subject.planned(variant=1), [], token())
        two = await provider.generate(subject.planned(variant=2), [], token())
    assert one.data != two.data


async def test_a_failed_attempt_says_its_kind_and_that_it_is_not_billed(subject):
    async with aclosing(subject.open(failing=True)) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.generate(subject.planned(), [], token())
    assert caught.value.kind is ErrorKind.TRANSIENT
    assert caught.value.billing is Billing.NOT_BILLED
    assert caught.value.code == "provider-unavailable"


async def test_one_call_is_one_request_at_most(subject):
    for failing in (False, True):
        async with aclosing(subject.open(failing=failing)) as provider:
            await asyncio.gather(
                provider.generate(subject.planned(), [], token()), return_exceptions=True
            )
    hosted = subject.kind not in {"local_renderer", "scripted"}
    assert subject.stub.counts["requests"] == (2 if hosted else 0)


async def test_requests_may_be_in_flight_together(subject):
    async with aclosing(subject.open()) as provider:
        results = await asyncio.gather(
            *(provider.generate(subject.planned(f"Sea {n}"), [], token()) for n in range(4))
        )
    assert len({result.data for result in results}) == 4


async def test_a_call_that_is_cancelled_says_nothing_of_its_bill(subject):
    if subject.kind in {"local_renderer", "scripted"}:
        pytest.skip("nothing is in flight for long")
    subject.stub.always("never")
    async with aclosing(subject.open()) as provider:
        call = asyncio.ensure_future(provider.generate(subject.planned(), [], token()))
        while not subject.stub.counts["billed"]:  # noqa: ASYNC110 - the stub has no event of ours
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    # Its intent stays open, and recovery assumes it.
    assert subject.stub.counts["requests"] == 1


def test_a_provider_is_opened_and_closed_in_every_loop_anew(subject):
    async def one():
        async with aclosing(subject.open()) as provider:
            return await provider.generate(subject.planned(), [], token())

    assert asyncio.run(one()).data
    assert asyncio.run(one()).data


async def test_closing_twice_does_no_harm(subject):
    provider = subject.open()
    await provider.generate(subject.planned(), [], token())
    await provider.aclose()
    await provider.aclose()


async def test_a_script_is_followed_in_order_and_its_last_outcome_repeats():
    error = ProviderError("slow down", kind=ErrorKind.RATE_LIMITED, retry_after_s=3)
    answer = await ScriptedProvider().generate(planned(), [], token())
    provider = ScriptedProvider({"S1/1": [error, answer]})
    with pytest.raises(ProviderError):
        await provider.generate(planned(), [b"ref"], token())
    assert await provider.generate(planned(), [], token()) == answer
    assert await provider.generate(planned(), [], token()) == answer
    assert [request.references for request in provider.requests] == [(b"ref",), (), ()]


async def test_the_peak_counts_requests_in_flight():
    hold = asyncio.Event()
    provider = ScriptedProvider(hold=hold)
    calls = [
        asyncio.ensure_future(provider.generate(planned(f"Sea {n}"), [], token())) for n in range(5)
    ]
    await asyncio.sleep(0)
    assert provider.in_flight == 5
    hold.set()
    await asyncio.gather(*calls)
    assert (provider.peak, provider.in_flight) == (5, 0)
