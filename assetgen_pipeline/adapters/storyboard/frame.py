"""The frame: a picture, a panel with the prompt in type, and where each stands."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFilter, ImageOps

from assetgen_pipeline.adapters.storyboard import lettering, scenery
from assetgen_pipeline.adapters.storyboard.dice import Dice
from assetgen_pipeline.adapters.storyboard.lettering import BOLD, REGULAR, TextBlock
from assetgen_pipeline.adapters.storyboard.palette import (
    Palette,
    Rgb,
    blend,
    open_reference,
    palette_from_prompt,
    palette_from_references,
)
from assetgen_pipeline.domain.generation import PlannedImage
from assetgen_pipeline.domain.image_request import ReferenceMode

# Everything is drawn at twice the size and halved once: smooth edges, evenly spaced type.
_SCALE = 2
_MARGIN = 36 * _SCALE
_TOP_STRIP = 72 * _SCALE
_FOOTER = 58 * _SCALE
_LABEL = 13 * _SCALE
_PROMPT_SIZES = tuple(
    (size * _SCALE, BOLD if size > 27 else REGULAR)  # noqa: PLR2004
    for size in (60, 52, 46, 40, 35, 31, 28, 25, 22, 20, 18, 16, 14, 12, 10, 8)
)
# A longer prompt gets a larger share of the frame before its type gets this small.
_COMFORTABLE = 22 * _SCALE
_SIDE_SHARES = (0.36, 0.44, 0.54)
_FOOT_SHARES = (0.27, 0.34, 0.44, 0.55)

_Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    art: _Box
    panel: _Box
    text: TextBlock


def draw_frame(image: PlannedImage, references: Sequence[bytes]) -> bytes:
    """The PNG of one frame; the same request and references always give the same bytes.

    Raises:
        OSError: a reference is no image.
    """
    dice = Dice(image.image_id)
    words = re.findall(r"\w+", image.prompt.lower())
    mood = palette_from_prompt(words, dice)
    palette = palette_from_references(references) if references else mood
    width, height = (edge * _SCALE for edge in image.size_px)
    layout = _layout(image.prompt, (width, height), mirrored=dice.pick((True, False)))
    left, top, right, bottom = layout.art
    size = (right - left, bottom - top)
    if references and image.reference_mode is ReferenceMode.STYLE_AND_COMPOSITION:
        art = _composition(references[0], size, palette, dice)
    else:
        art = scenery.paint(size, palette, words, dice)
    _crop_marks(art, palette)
    canvas = Image.new("RGB", (width, height))
    canvas.paste(art, (left, top))
    dark = dice.pick((True, False))
    _panel(canvas, image, layout, palette, dark=dark)
    out = io.BytesIO()
    canvas.reduce(_SCALE).save(out, "PNG", compress_level=1)
    return out.getvalue()


def _layout(prompt: str, size: tuple[int, int], *, mirrored: bool) -> _Layout:
    width, height = size
    text = lettering.drawable(prompt) or "…"
    landscape = width > height
    shares = _SIDE_SHARES if landscape else _FOOT_SHARES
    share, *larger = shares
    while True:
        if landscape:
            edge = round(width * share)
            panel = (width - edge, 0, width, height) if mirrored else (0, 0, edge, height)
            art = (0, 0, width - edge, height) if mirrored else (edge, 0, width, height)
        else:
            edge = round(height * share)
            panel = (0, height - edge, width, height)
            art = (0, 0, width, height - edge)
        left, top, right, bottom = _text_box(panel)
        space = {"width": right - left, "height": bottom - top}
        block = lettering.fit(text, sizes=_PROMPT_SIZES, **space)
        if block is not None and block.size >= _COMFORTABLE:
            break
        if not larger:
            # Only type wider than any alphabet's gets here: it ends where the panel does.
            block = block or lettering.cut(text, size=_PROMPT_SIZES[-1], **space)
            break
        share, *larger = larger
    return _Layout(art=art, panel=panel, text=block)


def _text_box(panel: _Box) -> _Box:
    left, top, right, bottom = panel
    return left + _MARGIN, top + _TOP_STRIP + _MARGIN // 2, right - _MARGIN, bottom - _FOOTER


def _composition(
    reference: bytes, size: tuple[int, int], palette: Palette, dice: Dice
) -> Image.Image:
    """The reference's large shapes in two inks and an accent, as a screen print has them."""
    small = (max(1, size[0] // 4), max(1, size[1] // 4))
    source = open_reference(reference, at_least=max(small))
    grey = ImageOps.fit(source, small).convert("L")
    # Half way to equal shares of every tone: a bright or dark reference keeps its shapes.
    even = Image.blend(ImageOps.autocontrast(grey, cutoff=1), ImageOps.equalize(grey), 0.5)
    soft = even.filter(ImageFilter.GaussianBlur(max(small) / 240))
    soft = ImageOps.posterize(soft.resize(size, Image.Resampling.BICUBIC), 3)
    art = ImageOps.colorize(
        ImageOps.autocontrast(soft),
        palette.ink,
        palette.paper,
        mid=blend(palette.middle, palette.accent, 0.45),
    )
    draw = ImageDraw.Draw(art, "RGBA")
    width, height = size
    for part in (1, 2):
        x, y = width * part / 3, height * part / 3
        draw.line((x, 0, x, height), fill=(*palette.paper, 80), width=_SCALE)
        draw.line((0, y, width, y), fill=(*palette.paper, 80), width=_SCALE)
    focus = (width * dice.pick((1, 2)) / 3, height * dice.pick((1, 2)) / 3)
    radius = min(size) * dice.between(0.10, 0.16)
    draw.circle(focus, radius, outline=(*palette.accent, 255), width=5 * _SCALE)
    draw.circle(focus, radius * 0.16, fill=palette.accent)
    return art


def _crop_marks(art: Image.Image, palette: Palette) -> None:
    draw = ImageDraw.Draw(art, "RGBA")
    width, height = art.size
    inset, arm, line = 22 * _SCALE, 20 * _SCALE, 2 * _SCALE
    for x, inwards in ((inset, 1), (width - inset, -1)):
        for y, down in ((inset, 1), (height - inset, -1)):
            for end in ((x + inwards * arm, y), (x, y + down * arm)):
                draw.line((x, y, *end), fill=(*palette.paper, 190), width=line)


def _panel(
    canvas: Image.Image, image: PlannedImage, layout: _Layout, palette: Palette, *, dark: bool
) -> None:
    ground, type_colour = (palette.ink, palette.paper) if dark else (palette.paper, palette.ink)
    quiet = blend(type_colour, ground, 0.38)
    draw = ImageDraw.Draw(canvas)
    draw.rectangle(layout.panel, fill=ground)
    left, top, right, bottom = layout.panel
    start, end = left + _MARGIN, right - _MARGIN
    rule = top + _MARGIN - 6 * _SCALE
    draw.rectangle((start, rule, end, rule + 4 * _SCALE), fill=type_colour)
    draw.rectangle((start, rule, start + 44 * _SCALE, rule + 4 * _SCALE), fill=palette.accent)
    strip = rule + 15 * _SCALE
    variant = f"v{image.variant}"
    wide = lettering.width_of(variant, font=BOLD, size=17 * _SCALE)
    room = end - start - wide - 12 * _SCALE
    sizes = [size * _SCALE for size in (17, 15, 13, 11)]
    scene = lettering.one_line(
        lettering.drawable(image.scene_id), width=room, font=BOLD, sizes=sizes
    )
    scene.draw(draw, (start, strip), fill=type_colour)
    number = TextBlock(lines=(variant,), font=BOLD, size=17 * _SCALE)
    number.draw(draw, (round(end - wide), strip), fill=type_colour)
    box = _text_box(layout.panel)
    layout.text.draw(draw, (box[0], box[1]), fill=type_colour)
    _footer(draw, image, (start, end, bottom - _MARGIN), (quiet, palette))


def _footer(
    draw: ImageDraw.ImageDraw,
    image: PlannedImage,
    place: tuple[int, int, int],
    colours: tuple[Rgb, Palette],
) -> None:
    start, end, baseline = place
    quiet, palette = colours
    side = 11 * _SCALE
    swatches = palette.swatches()
    room = end - start - (side + 3 * _SCALE) * len(swatches) - 10 * _SCALE
    note = f"local renderer · variant {image.variant}"
    label = lettering.one_line(note, width=room, font=REGULAR, sizes=(_LABEL, 11 * _SCALE))
    label.draw(draw, (start, baseline - _LABEL), fill=quiet)
    for index, colour in enumerate(reversed(swatches)):
        x = end - side - index * (side + 3 * _SCALE)
        box = (x, baseline - side - 2 * _SCALE, x + side, baseline - 2 * _SCALE)
        draw.rectangle(box, fill=colour, outline=quiet, width=1)
