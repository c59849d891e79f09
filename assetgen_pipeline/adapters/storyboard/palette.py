"""Palettes: the colours of a frame, taken from its references or from the prompt's mood."""

import colorsys
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from assetgen_pipeline.adapters.storyboard.dice import Dice

Rgb = tuple[int, int, int]

_FORMATS = ("PNG", "JPEG", "WEBP")
_SAMPLE_PX = 64
_COLOURS = 20
_FREQUENT = 5
# Text on its panel must read whatever the references look like.
_INK_LUMINANCE = 0.10
_PAPER_LUMINANCE = 0.90
_PALE = 0.80
_ENOUGH_WITHOUT_ACCENT = 4
_BLACK: Rgb = (0, 0, 0)
_WHITE: Rgb = (255, 255, 255)


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """Colours by what they are for; `ink` on `paper` always reads."""

    ink: Rgb
    deep: Rgb
    middle: Rgb
    soft: Rgb
    paper: Rgb
    accent: Rgb

    def depth(self, distance: float) -> Rgb:
        """The colour of things at a distance from 0 (near) to 1 (the horizon)."""
        stops = (self.ink, self.deep, self.middle, self.soft)
        position = min(max(distance, 0.0), 1.0) * (len(stops) - 1)
        index = min(int(position), len(stops) - 2)
        return blend(stops[index], stops[index + 1], position - index)

    def swatches(self) -> tuple[Rgb, ...]:
        """The colours to show in a row, dark to light."""
        return (self.ink, self.deep, self.middle, self.soft, self.accent)


def blend(one: Rgb, other: Rgb, share: float) -> Rgb:
    """The colour `share` of the way from one to the other."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def luminance(colour: Rgb) -> float:
    """How light a colour looks, 0 to 1."""
    red, green, blue = colour
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255


def palette_of(colours: Sequence[Rgb]) -> Palette:
    """Give each of some colours (at least one) its part, most important first."""
    accent = max(colours, key=_vividness)
    others = [colour for colour in colours if colour != accent]
    by_light = sorted(others if len(others) >= _ENOUGH_WITHOUT_ACCENT else colours, key=luminance)
    ink, paper = by_light[0], by_light[-1]
    if luminance(ink) > _INK_LUMINANCE:
        ink = blend(_BLACK, ink, _INK_LUMINANCE / luminance(ink))
    if luminance(paper) < _PAPER_LUMINANCE:
        missing = 1 - luminance(paper)
        paper = blend(_WHITE, paper, (1 - _PAPER_LUMINANCE) / missing)
    if luminance(accent) > _PALE:
        accent = blend(accent, ink, 0.3)
    last = len(by_light) - 1
    deep, middle, soft = (by_light[round(last * at)] for at in (0.25, 0.5, 0.75))
    return Palette(
        ink=ink,
        deep=blend(deep, ink, 0.35),
        middle=middle,
        soft=blend(soft, paper, 0.25),
        paper=paper,
        accent=accent,
    )


def _vividness(colour: Rgb) -> float:
    _, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in colour))
    return saturation * value * (1 - abs(luminance(colour) - 0.5))


def open_reference(data: bytes, *, at_least: int) -> Image.Image:
    """Decode a reference as RGB, a JPEG only as finely as `at_least` pixels need.

    Raises:
        OSError: the bytes are no image.
    """
    image = Image.open(io.BytesIO(data), formats=_FORMATS)
    image.draft("RGB", (at_least, at_least))
    return image.convert("RGB")


# Packs are shared by many rows: a few of their images cover most of a batch.
@lru_cache(maxsize=12)
def dominant_colours(reference: bytes) -> tuple[Rgb, ...]:
    """The main colours of a reference, the most frequent first.

    Raises:
        OSError: the bytes are no image.
    """
    sample = open_reference(reference, at_least=2 * _SAMPLE_PX)
    sample = sample.resize((_SAMPLE_PX, _SAMPLE_PX), Image.Resampling.BOX)
    reduced = sample.quantize(_COLOURS, method=Image.Quantize.MEDIANCUT)
    table = reduced.getpalette() or []
    counted = sorted(reduced.getcolors() or [], key=lambda entry: (-entry[0], entry[1]))
    found: list[Rgb] = []
    for _, index in counted:
        red, green, blue = table[3 * int(str(index)) : 3 * int(str(index)) + 3]
        found.append((red, green, blue))
    # A small vivid thing (a lamp, a red coat) is what a picture is remembered by.
    rest = sorted(found[_FREQUENT:], key=_vividness)
    return (*found[:_FREQUENT], *rest[-1:])


def palette_from_references(references: Sequence[bytes]) -> Palette:
    """The palette that the references have together.

    Raises:
        OSError: one of them is no image.
    """
    return palette_of([colour for data in references for colour in dominant_colours(data)])


def _hex(text: str) -> tuple[Rgb, ...]:
    return tuple(
        (int(word[0:2], 16), int(word[2:4], 16), int(word[4:6], 16)) for word in text.split()
    )


_MOODS = {
    "dawn": _hex("2b2d42 6d5a78 d9726b f6bd8b fdf0d5 f25f4c"),
    "day": _hex("12304f 2f6f8f 7fb7be dfd3a4 f7f3e6 e4572e"),
    "dusk": _hex("1d1a39 4a1f5a 9c3f66 e0795a f9d3a0 ff5a36"),
    "night": _hex("0b132b 1c2a4a 3a567a 7d9fb0 f2e9d8 ffc145"),
    "moss": _hex("16261c 35573f 7a9e67 cfd3a0 f6f4e6 e8733a"),
    "sand": _hex("3a2418 8c4a2f d1884a efcb8e fbf3e2 1f8a8c"),
    "fog": _hex("1f262d 4c5b66 8fa3ad cdd6d6 f5f5f0 d9402f"),
    "print": _hex("161616 24558f 5f8f8a f0c04a f3ecdc d8352a"),
}
_MOOD_OF = {
    word: mood
    for mood, words in {
        "dawn": "dawn sunrise morning daybreak rose pink spring",
        "day": "noon day sea sky summer blue harbour harbor beach lake modern",
        "dusk": "dusk sunset evening golden twilight red fire autumn afternoon",
        "night": "night midnight moon moonlight star stars dark neon lamp lantern space",
        "moss": "forest garden plants plant moss field green pine trees leaves natural",
        "sand": "desert sand dune dunes warm wood wooden rustic copper bread cozy",
        "fog": "fog mist rain snow winter grey gray storm cold wet ice",
        "print": "geometric abstract minimalist poster bauhaus graphic",
    }.items()
    for word in words.split()
}


def palette_from_prompt(words: Sequence[str], dice: Dice) -> Palette:
    """The palette of the first mood that the prompt names, else one by chance."""
    by_chance = dice.pick(sorted(_MOODS))
    named = next((_MOOD_OF[word] for word in words if word in _MOOD_OF), by_chance)
    return palette_of(_MOODS[named])
