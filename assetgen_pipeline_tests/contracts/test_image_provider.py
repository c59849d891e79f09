"""What every image provider keeps to, real or scripted."""

import asyncio
import hashlib
import io

import pytest
from PIL import Image

from assetgen_pipeline.adapters.providers.local_renderer import LocalRenderer
from assetgen_pipeline.domain.budget import AttemptToken
from assetgen_pipeline.domain.generation import (
    Billing,
    ErrorKind,
    PlannedImage,
    ProviderError,
    image_id_of,
)
from assetgen_pipeline.domain.image_request import AspectRatio, ReferenceMode
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.domain.pricing import ModelPrice
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.providers import ScriptedProvider

PRICE = ModelPrice(provider="local", model="storyboard-1", image_usd="0.002")
CEILING = Money(2_000)


def planned(prompt="A quiet harbour", *, variant=1, aspect=AspectRatio.SQUARE):
    image = PlannedImage(
        image_id="",
        row_number=1,
        scene_id="S1",
        variant=variant,
        prompt=prompt,
        aspect_ratio=aspect,
        reference_mode=ReferenceMode.STYLE_ONLY,
        references=(),
        provider="local",
        model="storyboard-1",
    )
    return image.model_copy(update={"image_id": image_id_of(image)})


def token(number=1):
    attempt_id = hashlib.sha256(str(number).encode()).hexdigest()
    return AttemptToken.mint(attempt_id=attempt_id, attempt_no=1, ceiling=CEILING)


def local(*, failing):
    return LocalRenderer(price=PRICE, clock=ManualClock(), failure_rate=1.0 if failing else 0.0)


def scripted(*, failing):
    error = ProviderError("unavailable", kind=ErrorKind.TRANSIENT)
    return ScriptedProvider(default=[error] if failing else [])


@pytest.fixture(params=[local, scripted], ids=["local_renderer", "scripted"])
def make(request):
    return request.param


@pytest.mark.parametrize("aspect", list(AspectRatio))
async def test_the_image_decodes_and_has_the_shape_asked_for(make, aspect):
    result = await make(failing=False).generate(planned(aspect=aspect), [], token())
    with Image.open(io.BytesIO(result.data)) as image:
        image.load()
        width, height = planned(aspect=aspect).size_px
        assert image.width / image.height == pytest.approx(width / height, rel=0.03)


async def test_the_cost_is_stated_and_within_the_ceiling(make):
    result = await make(failing=False).generate(planned(), [], token())
    assert ZERO < result.cost <= CEILING
    assert result.cost_basis in {"usage", "flat"}


async def test_variants_of_a_row_are_different_images(make):
    provider = make(failing=False)
    one = await provider.generate(planned(variant=1), [], token(1))
    two = await provider.generate(planned(variant=2), [], token(2))
    assert one.data != two.data


async def test_a_failed_attempt_says_its_kind_and_that_it_is_not_billed(make):
    with pytest.raises(ProviderError) as caught:
        await make(failing=True).generate(planned(), [], token())
    assert caught.value.kind is ErrorKind.TRANSIENT
    assert caught.value.billing is Billing.NOT_BILLED
    assert caught.value.code == "provider-unavailable"


async def test_requests_may_be_in_flight_together(make):
    provider = make(failing=False)
    results = await asyncio.gather(
        *(provider.generate(planned(f"Sea {n}"), [], token(n)) for n in range(4))
    )
    assert len({result.data for result in results}) == 4


async def test_closing_twice_does_no_harm(make):
    provider = make(failing=False)
    await provider.generate(planned(), [], token())
    await provider.aclose()
    await provider.aclose()


async def test_a_script_is_followed_in_order_and_its_last_outcome_repeats():
    error = ProviderError("slow down", kind=ErrorKind.RATE_LIMITED, retry_after_s=3)
    answer = await ScriptedProvider().generate(planned(), [], token())
    provider = ScriptedProvider({"S1/1": [error, answer]})
    with pytest.raises(ProviderError):
        await provider.generate(planned(), [b"ref"], token(1))
    assert await provider.generate(planned(), [], token(2)) == answer
    assert await provider.generate(planned(), [], token(3)) == answer
    assert [request.references for request in provider.requests] == [(b"ref",), (), ()]


async def test_the_peak_counts_requests_in_flight():
    hold = asyncio.Event()
    provider = ScriptedProvider(hold=hold)
    calls = [
        asyncio.ensure_future(provider.generate(planned(f"Sea {n}"), [], token(n)))
        for n in range(5)
    ]
    await asyncio.sleep(0)
    assert provider.in_flight == 5
    hold.set()
    await asyncio.gather(*calls)
    assert (provider.peak, provider.in_flight) == (5, 0)
