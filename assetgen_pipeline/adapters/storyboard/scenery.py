"""Scenery: geometric pictures, chosen by what the prompt speaks of and drawn from a palette."""

import math
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

from assetgen_pipeline.adapters.storyboard.dice import Dice
from assetgen_pipeline.adapters.storyboard.palette import Palette, Rgb, blend

_Pen = ImageDraw.ImageDraw
_Point = tuple[float, float]
_Painter = Callable[[Image.Image, Palette, Dice], None]


def paint(size: tuple[int, int], palette: Palette, words: Sequence[str], dice: Dice) -> Image.Image:
    """A picture of `size`: of the first subject that the prompt names, else one by chance."""
    by_chance = dice.pick((_ridges, _sea, _orbits, _city, _forest))
    painter = next((_PAINTER_OF[word] for word in words if word in _PAINTER_OF), by_chance)
    art = _gradient(size, palette.middle, palette.paper)
    painter(art, palette, dice)
    return art


def _gradient(size: tuple[int, int], top: Rgb, bottom: Rgb) -> Image.Image:
    width, height = size
    column = Image.new("RGB", (1, height))
    column.putdata([blend(top, bottom, (y / height) ** 1.3) for y in range(height)])
    return column.resize((width, height), Image.Resampling.NEAREST)


def _sun(art: Image.Image, palette: Palette, centre: _Point, radius: float) -> None:
    draw = ImageDraw.Draw(art, "RGBA")
    for scale, alpha in ((2.6, 26), (1.9, 38), (1.4, 60)):
        draw.circle(centre, radius * scale, fill=(*palette.paper, alpha))
    draw.circle(centre, radius, fill=palette.accent)


def _ridges(art: Image.Image, palette: Palette, dice: Dice) -> None:
    width, height = art.size
    short = min(width, height)
    centre = (width * dice.between(0.22, 0.78), height * dice.between(0.24, 0.40))
    _sun(art, palette, centre, short * dice.between(0.09, 0.15))
    draw = ImageDraw.Draw(art)
    layers = 6
    for layer in range(layers):
        nearness = layer / (layers - 1)
        base = height * (0.46 + 0.46 * nearness)
        swing = height * dice.between(0.05, 0.11) * (1.25 - 0.5 * nearness)
        waves = [
            (swing / (1 + order), dice.between(0.7, 1.5) * (1 + order), dice.between(0, math.tau))
            for order in range(4)
        ]
        ridge = [
            (
                x,
                base
                - sum(
                    size * math.sin(math.tau * count * x / max(width, height) + phase)
                    for size, count, phase in waves
                ),
            )
            for x in range(0, width + 12, 12)
        ]
        draw.polygon(
            [(0, height), *ridge, (width, height)], fill=palette.depth(0.95 * (1 - nearness))
        )


def _sea(art: Image.Image, palette: Palette, dice: Dice) -> None:
    width, height = art.size
    horizon = round(height * dice.between(0.52, 0.62))
    radius = min(width, height) * dice.between(0.15, 0.21)
    middle = width * dice.between(0.3, 0.7)
    _sun(art, palette, (middle, horizon - radius * dice.between(0.15, 0.7)), radius)
    water = _gradient(
        (width, height - horizon), blend(palette.middle, palette.deep, 0.35), palette.ink
    )
    art.paste(water, (0, horizon))
    draw = ImageDraw.Draw(art, "RGBA")
    depth = height - horizon
    rows = 15
    for row in range(rows):
        y = horizon + depth * (row + 0.6) ** 1.25 / rows**1.25
        thick = 3 + depth * 0.012 * (1 + row * 0.22)
        half = radius * dice.between(0.35, 1.0) * (1 - 0.035 * row)
        drift = radius * dice.between(-0.22, 0.22)
        box = (middle + drift - half, y, middle + drift + half, y + thick)
        draw.rounded_rectangle(box, thick / 2, fill=(*palette.accent, 255 - row * 11))
        for _ in range(2):
            start = width * dice.between(-0.1, 1.0)
            box = (start, y, start + width * dice.between(0.04, 0.18), y + thick * 0.4)
            draw.rounded_rectangle(box, thick / 5, fill=(*palette.soft, 90))
    _boat(draw, palette, (width * dice.pick((0.16, 0.82)), horizon + depth * 0.12), height * 0.1)


def _boat(draw: _Pen, palette: Palette, at: _Point, size: float) -> None:
    x, y = at
    draw.polygon([(x, y - size * 1.5), (x, y - 4), (x + size * 0.75, y - 4)], fill=palette.paper)
    draw.polygon(
        [(x - 8, y - size * 1.2), (x - 8, y - 4), (x - size * 0.5, y - 4)], fill=palette.soft
    )
    hull = [(-0.75, 0.05), (0.95, 0.05), (0.65, 0.3), (-0.5, 0.3)]
    draw.polygon([(x + size * a, y + size * b) for a, b in hull], fill=palette.ink)


def _city(art: Image.Image, palette: Palette, dice: Dice) -> None:
    width, height = art.size
    short = min(width, height)
    centre = (width * dice.between(0.25, 0.75), height * dice.between(0.24, 0.36))
    _sun(art, palette, centre, short * dice.between(0.10, 0.15))
    draw = ImageDraw.Draw(art)
    for nearness, top in ((0.15, 0.38), (0.5, 0.50), (0.95, 0.64)):
        colour = palette.depth(0.9 * (1 - nearness))
        x = -short * dice.between(0.0, 0.1)
        while x < width:
            wide = short * dice.between(0.09, 0.17) * (0.8 + 0.5 * nearness)
            roof = height * (top + dice.between(-0.13, 0.15))
            draw.rectangle((x, roof, x + wide, height), fill=colour)
            if dice.between(0, 1) < 0.3:  # noqa: PLR2004
                draw.polygon(
                    [(x, roof), (x + wide / 2, roof - wide * 0.5), (x + wide, roof)], fill=colour
                )
            if nearness > 0.4:  # noqa: PLR2004
                _windows(draw, (x, roof, wide, height - roof), palette, dice)
            x += wide + short * dice.pick((0.0, 0.008, 0.03))


def _windows(
    draw: _Pen,
    house: tuple[float, float, float, float],
    palette: Palette,
    dice: Dice,
) -> None:
    left, roof, wide, tall = house
    columns = dice.pick((3, 4))
    step = wide / columns
    lit = dice.between(0.12, 0.5)
    for row in range(1, int(tall / (step * 1.25))):
        for column in range(columns):
            if dice.between(0, 1) < lit:
                x, y = left + step * (column + 0.28), roof + row * step * 1.25
                glow = dice.pick((palette.accent, palette.soft, palette.paper))
                draw.rectangle((x, y, x + step * 0.44, y + step * 0.66), fill=glow)


def _forest(art: Image.Image, palette: Palette, dice: Dice) -> None:
    width, height = art.size
    short = min(width, height)
    centre = (width * dice.between(0.3, 0.7), height * dice.between(0.28, 0.42))
    _sun(art, palette, centre, short * dice.between(0.11, 0.17))
    draw = ImageDraw.Draw(art)
    for layer in range(4):
        nearness = layer / 3
        colour = palette.depth(0.85 * (1 - nearness))
        ground = height * (0.60 + 0.30 * nearness)
        draw.rectangle((0, ground, width, height), fill=colour)
        x = -short * dice.between(0.0, 0.1)
        while x < width + short * 0.1:
            tall = short * dice.between(0.16, 0.34) * (0.6 + 0.9 * nearness)
            _pine(draw, (x, ground + 8), tall, colour)
            x += tall * dice.between(0.28, 0.62)


def _pine(draw: _Pen, at: _Point, tall: float, colour: Rgb) -> None:
    x, y = at
    for tier in range(4):
        half = tall * (0.085 + 0.045 * (3 - tier))
        foot = y - tall * 0.2 * tier
        draw.polygon([(x - half, foot), (x, foot - tall * 0.42), (x + half, foot)], fill=colour)


def _interior(art: Image.Image, palette: Palette, dice: Dice) -> None:
    width, height = art.size
    short = min(width, height)
    outside = art.copy()
    wall = blend(palette.soft, palette.paper, 0.35)
    art.paste(wall, (0, 0, width, height))
    draw = ImageDraw.Draw(art, "RGBA")
    floor = round(height * dice.between(0.70, 0.76))
    draw.rectangle((0, floor, width, height), fill=blend(palette.middle, palette.deep, 0.3))
    wide, tall = round(short * dice.between(0.36, 0.46)), round(short * dice.between(0.42, 0.5))
    left = round((width - wide) * dice.between(0.14, 0.34))
    top = round(floor - tall - short * 0.17)
    view = outside.resize((wide, tall))
    _ridges(view, palette, dice)
    art.paste(view, (left, top))
    bar = max(4, round(short * 0.012))
    for offset in (0, 0.5, 1):
        x, y = left + wide * offset, top + tall * offset
        draw.rectangle((x - bar, top - bar, x + bar, top + tall + bar), fill=palette.paper)
        draw.rectangle((left - bar, y - bar, left + wide + bar, y + bar), fill=palette.paper)
    slant = short * 0.24
    light = [
        (left, floor),
        (left + wide, floor),
        (left + wide + slant, height),
        (left + slant, height),
    ]
    draw.polygon(light, fill=(*palette.paper, 96))
    _lamp(draw, palette, (left + wide + (width - left - wide) * 0.5, top + tall * 0.08), short)
    beside = min(left + wide + (width - left - wide) * 0.45, width - short * 0.30)
    _table(draw, palette, (beside, floor), short)


def _lamp(draw: _Pen, palette: Palette, at: _Point, short: float) -> None:
    x, y = at
    radius = short * 0.085
    draw.circle((x, y + radius), radius * 3, fill=(*palette.paper, 70))
    draw.line((x, 0, x, y), fill=palette.ink, width=max(3, round(short * 0.005)))
    draw.pieslice((x - radius, y, x + radius, y + 2 * radius), 180, 360, fill=palette.accent)


def _table(draw: _Pen, palette: Palette, at: _Point, short: float) -> None:
    x, floor = at
    half, leg, board = short * 0.26, short * 0.018, short * 0.026
    top, foot = floor - short * 0.20, floor + short * 0.06
    draw.rectangle((x - half, top, x + half, top + board), fill=palette.ink)
    for side in (-0.86, 0.86):
        draw.rectangle(
            (x + half * side - leg / 2, top, x + half * side + leg / 2, foot), fill=palette.ink
        )
    pot = short * 0.05
    for turn in range(-3, 4):
        angle = math.radians(90 + turn * 22)
        tip = (x + math.cos(angle) * pot * 2.6, top - pot - math.sin(angle) * pot * 2.6)
        draw.line((x, top - pot, *tip), fill=palette.deep, width=max(5, round(pot * 0.34)))
        draw.circle(tip, pot * 0.42, fill=palette.deep)
    draw.polygon(
        [
            (x - pot, top - pot * 1.5),
            (x + pot, top - pot * 1.5),
            (x + pot * 0.7, top),
            (x - pot * 0.7, top),
        ],
        fill=palette.accent,
    )


def _orbits(art: Image.Image, palette: Palette, dice: Dice) -> None:
    width, height = art.size
    tile = (
        max(width, height) / 5
        if min(width, height) * 2 > max(width, height)
        else min(width, height) / 2
    )
    columns, rows = math.ceil(width / tile), math.ceil(height / tile)
    colours = (
        palette.ink,
        palette.deep,
        palette.middle,
        palette.soft,
        palette.paper,
        palette.accent,
    )
    draw = ImageDraw.Draw(art)
    for row in range(rows):
        for column in range(columns):
            ground = dice.pick(colours)
            figure = dice.pick([colour for colour in colours if colour != ground])
            x, y = column * tile, row * tile
            draw.rectangle((x, y, x + tile, y + tile), fill=ground)
            _figure(draw, (x, y, tile), figure, dice)


def _figure(draw: _Pen, tile: tuple[float, float, float], colour: Rgb, dice: Dice) -> None:
    x, y, side = tile
    kind = dice.pick(("quarter", "quarter", "quarter", "half", "disc", "steps"))
    turn = dice.pick((0, 1, 2, 3))
    if kind == "quarter":
        corner = (x + side * (turn in {1, 2}), y + side * (turn in {2, 3}))
        box = (corner[0] - side, corner[1] - side, corner[0] + side, corner[1] + side)
        draw.pieslice(box, 90 * turn, 90 * turn + 90, fill=colour)
    elif kind == "half":
        draw.pieslice((x, y, x + side, y + side), 90 * turn, 90 * turn + 180, fill=colour)
    elif kind == "disc":
        draw.circle((x + side / 2, y + side / 2), side * 0.3, fill=colour)
    else:
        for step in range(4):
            draw.rectangle(
                (x, y + side * step / 4, x + side, y + side * (step + 0.5) / 4), fill=colour
            )


_PAINTER_OF: dict[str, _Painter] = {
    word: painter
    for painter, words in (
        (
            _interior,
            "kitchen room bedroom office interior window table door cafe desk library house",
        ),
        (_city, "city street rooftop rooftops roof tower building station train bridge town alley"),
        (_sea, "sea ocean harbour harbor boat beach lake river lighthouse ship water pier bay"),
        (_forest, "forest tree trees pine pines woods garden park plants"),
        (_ridges, "mountain mountains hill hills valley desert dune dunes field road ridge path"),
        (_orbits, "geometric abstract poster pattern bauhaus title logo"),
    )
    for word in words.split()
}
