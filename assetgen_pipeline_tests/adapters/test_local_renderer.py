"""The local renderer: the same frame every time, made of what the row asked for."""

import asyncio
import hashlib
import io
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from assetgen_pipeline.adapters.providers import local_renderer
from assetgen_pipeline.adapters.providers.local_renderer import LocalRenderer
from assetgen_pipeline.adapters.storyboard import lettering
from assetgen_pipeline.adapters.storyboard.frame import draw_frame
from assetgen_pipeline.adapters.storyboard.lettering import BOLD, REGULAR
from assetgen_pipeline.adapters.storyboard.palette import (
    dominant_colours,
    luminance,
    palette_of,
)
from assetgen_pipeline.adapters.storyboard.scenery import _PAINTER_OF
from assetgen_pipeline.domain.budget import AttemptToken
from assetgen_pipeline.domain.generation import ErrorKind, PlannedImage, ProviderError
from assetgen_pipeline.domain.image_request import AspectRatio, ReferenceMode
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.pricing import ModelPrice
from assetgen_pipeline.testing.clock import ManualClock

PRICE = ModelPrice(provider="local", model="storyboard-1", image_usd="0.002", nominal=True)


def planned(prompt="A quiet harbour at dawn", **changes):
    fields = {
        "image_id": hashlib.sha256(f"{prompt}{changes}".encode()).hexdigest()[:40],
        "row_number": 1,
        "scene_id": "S1",
        "variant": 1,
        "prompt": prompt,
        "aspect_ratio": AspectRatio.CLASSIC,
        "reference_mode": ReferenceMode.STYLE_ONLY,
        "references": (),
        "provider": "local",
        "model": "storyboard-1",
    }
    return PlannedImage(**{**fields, **changes})


def token(attempt_id="a" * 64):
    return AttemptToken.mint(attempt_id=attempt_id, attempt_no=1, ceiling=Money(2000))


def renderer(**knobs):
    return LocalRenderer(price=PRICE, clock=knobs.pop("clock", ManualClock()), **knobs)


def reference(colours, *, kind="PNG", size=(300, 200)):
    image = Image.new("RGB", size)
    for index, colour in enumerate(colours):
        left = size[0] * index // len(colours)
        image.paste(colour, (left, 0, size[0], size[1]))
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def mean_colour(data, box=None):
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB").crop(box).resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))


REDS = reference([(120, 10, 10), (220, 40, 30), (255, 160, 140), (60, 0, 5)])
BLUES = reference([(10, 10, 120), (30, 60, 220), (140, 170, 255), (0, 5, 60)], kind="JPEG")


async def test_the_same_request_gives_the_same_bytes_whenever_and_whoever_asks():
    early = await renderer(seed=1).generate(planned(), [REDS], token("a" * 64))
    later = await renderer(seed=2).generate(planned(), [REDS], token("b" * 64))
    assert early.data == later.data


@pytest.mark.parametrize("aspect", list(AspectRatio))
def test_a_frame_has_exactly_the_size_asked_for(aspect):
    image = planned(aspect_ratio=aspect)
    with Image.open(io.BytesIO(draw_frame(image, []))) as frame:
        assert frame.size == image.size_px
        assert frame.format == "PNG"


@pytest.mark.parametrize("word", sorted({p: w for w, p in _PAINTER_OF.items()}.values()))
@pytest.mark.parametrize("aspect", [AspectRatio.LANDSCAPE, AspectRatio.PORTRAIT])
def test_every_subject_paints_at_every_shape_and_stays_small(word, aspect):
    data = draw_frame(planned(f"The {word}", aspect_ratio=aspect), [])
    assert len(data) < 150 * 1024


async def test_it_costs_the_listed_price():
    result = await renderer().generate(planned(), [], token())
    assert (result.cost, result.cost_basis) == (Money(2000), "flat")


@pytest.mark.parametrize("mode", list(ReferenceMode))
def test_the_palette_comes_from_the_references(mode):
    image = planned(reference_mode=mode)
    red, blue = (mean_colour(draw_frame(image, [data])) for data in (REDS, BLUES))
    assert red[0] > red[2] + 20
    assert blue[2] > blue[0] + 20


def test_every_reference_has_a_part_in_the_palette():
    assert draw_frame(planned(), [REDS]) != draw_frame(planned(), [REDS, BLUES])


def test_a_small_vivid_thing_is_among_the_dominant_colours():
    greys = [(40 + 30 * n, 40 + 30 * n, 40 + 30 * n) for n in range(7)]
    colours = dominant_colours(reference([*greys, (250, 20, 20)], size=(640, 320)))
    assert any(red > 200 and blue < 60 for red, _, blue in colours)


def test_the_composition_of_the_first_reference_lies_underneath():
    image = planned(
        reference_mode=ReferenceMode.STYLE_AND_COMPOSITION, aspect_ratio=AspectRatio.SQUARE
    )
    night, day = (8, 8, 12), (250, 246, 240)
    left_dark = mean_colour(draw_frame(image, [reference([night, day])]), (60, 60, 400, 500))
    left_light = mean_colour(draw_frame(image, [reference([day, night])]), (60, 60, 400, 500))
    assert luminance(left_light) - luminance(left_dark) > 0.4


@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=8))
def test_ink_on_paper_reads_whatever_the_references_look_like(colours):
    palette = palette_of(colours)
    assert luminance(palette.paper) - luminance(palette.ink) > 0.7


@pytest.mark.parametrize("aspect", list(AspectRatio))
@pytest.mark.parametrize(
    "prompt", ["W" * 1000, "word " * 200, "日" * 1000, "🎬" * 1000, "⸻" * 1000, "\u200d"]
)
def test_the_longest_prompts_fit(prompt, aspect):
    assert draw_frame(planned(prompt, aspect_ratio=aspect, scene_id="W" * 50), [])


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=120), st.integers(60, 600))
def test_lines_never_pass_the_width_and_keep_every_word(text, width):
    shown = lettering.drawable(text)
    lines = lettering.wrap(shown, width=width, font=REGULAR, size=24)
    for line in lines:
        assert lettering.width_of(line, font=REGULAR, size=24) <= width or len(line) == 1
    assert "".join(lines).replace(" ", "") == shown.replace(" ", "")


def test_what_no_box_holds_ends_in_an_ellipsis_where_the_box_does():
    block = lettering.cut("word " * 400, width=200, height=100, size=(16, REGULAR))
    assert block.height <= 100
    assert block.lines[-1].endswith("…")


def test_characters_without_a_glyph_become_marks():
    assert lettering.drawable("naïve Привет\n日本 🎬👩‍👧") == "naïve Привет □□ ◆◆◆"


def test_a_scene_id_too_wide_loses_its_middle():
    block = lettering.one_line("A" * 30 + "Z" * 20, width=200, font=BOLD, sizes=(17, 11))
    assert block.lines[0].startswith("AA")
    assert block.lines[0].endswith("ZZ")
    assert "…" in block.lines[0]
    assert lettering.width_of(block.lines[0], font=BOLD, size=block.size) <= 200


async def test_a_share_of_the_attempts_fails_and_always_the_same_ones():
    async def fails(attempt_id, seed):
        try:
            await failing(seed).generate(planned(), [b"no image"], token(attempt_id))
        except ProviderError as error:
            return error.kind is ErrorKind.TRANSIENT

    def failing(seed):
        return renderer(failure_rate=0.3, seed=seed)

    ids = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(400)]
    first = [await fails(attempt_id, 0) for attempt_id in ids]
    assert first == [await fails(attempt_id, 0) for attempt_id in ids]
    assert first != [await fails(attempt_id, 1) for attempt_id in ids]
    assert 80 < sum(first) < 160


async def test_a_reference_that_is_no_image_ends_the_image_without_a_bill():
    with pytest.raises(ProviderError) as caught:
        await renderer().generate(planned(), [b"no image"], token())
    assert caught.value.kind is ErrorKind.INVALID_REQUEST
    assert caught.value.__cause__ is None


async def test_latency_is_waited_on_the_clock():
    clock = ManualClock()
    await renderer(clock=clock, latency_s=2.5).generate(planned(), [], token())
    assert clock.sleeps == [2.5]


async def test_no_more_frames_are_drawn_at_once_than_there_are_cores(monkeypatch):
    at_it, peaks = [], []
    everyone = threading.Barrier(2)

    def draw(image, references):
        at_it.append(image)
        peaks.append(len(at_it))
        everyone.wait(60)
        at_it.pop()
        return b"a frame"

    monkeypatch.setattr(local_renderer.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(local_renderer, "draw_frame", draw)
    local = renderer()
    images = [planned(f"scene {n}") for n in range(12)]

    drawn = await asyncio.gather(*(local.generate(image, (), token()) for image in images))

    assert [one.data for one in drawn] == [b"a frame"] * 12
    assert max(peaks) == 2
