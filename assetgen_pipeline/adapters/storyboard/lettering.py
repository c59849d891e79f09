"""Lettering: any text, set as large as its box allows, in glyphs that the font has."""

import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from PIL import ImageDraw, ImageFont

from assetgen_pipeline.adapters.storyboard.palette import Rgb

REGULAR = "Inter-Regular.otf"
BOLD = "Inter-Bold.otf"

_NO_CHARACTER = "\U0010fffe"
_SYMBOL_MARK = "◆"
_LETTER_MARK = "□"
_LINE_HEIGHT = 1.22


@lru_cache(maxsize=2)
def _font_bytes(name: str) -> bytes:
    return (resources.files("assetgen_pipeline") / "data" / "fonts" / name).read_bytes()


@lru_cache(maxsize=64)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    # The basic layout needs no library of the machine's, so frames are the same everywhere.
    return ImageFont.truetype(
        io.BytesIO(_font_bytes(name)), size, layout_engine=ImageFont.Layout.BASIC
    )


@lru_cache(maxsize=8192)
def _advance(character: str, name: str, size: int) -> float:
    return _font(name, size).getlength(character)


@lru_cache(maxsize=4096)
def _has_glyph(character: str) -> bool:
    font = _font(REGULAR, 24)
    return bytes(font.getmask(character)) != bytes(font.getmask(_NO_CHARACTER))


def drawable(text: str) -> str:
    """The text on one line, with a mark for each character that the font has no glyph for."""
    shown = []
    for character in " ".join(unicodedata.normalize("NFC", text).split()):
        category = unicodedata.category(character)
        if category in {"Cf", "Cc", "Mn", "Me", "Cs"}:
            continue  # Joiners, selectors, direction marks: nothing to see on their own.
        if character == " " or _has_glyph(character):
            shown.append(character)
        else:
            shown.append(_SYMBOL_MARK if category.startswith("S") else _LETTER_MARK)
    return "".join(shown)


def width_of(text: str, *, font: str, size: int) -> float:
    """The width of drawable text in pixels."""
    return sum(_advance(character, font, size) for character in text)


def wrap(text: str, *, width: float, font: str, size: int) -> list[str]:
    """Drawable text in lines no wider than `width`; a longer word is broken."""
    lines: list[str] = []
    line, filled = "", 0.0
    space = _advance(" ", font, size)
    for word in text.split(" "):
        needed = width_of(word, font=font, size=size)
        if line and filled + space + needed <= width:
            line, filled = f"{line} {word}", filled + space + needed
            continue
        if line:
            lines.append(line)
        *full, line = _broken(word, width=width, font=font, size=size)
        lines.extend(full)
        filled = needed if not full else width_of(line, font=font, size=size)
    return [*lines, line]


def _broken(word: str, *, width: float, font: str, size: int) -> list[str]:
    pieces = [""]
    filled = 0.0
    for character in word:
        needed = _advance(character, font, size)
        if pieces[-1] and filled + needed > width:
            pieces.append("")
            filled = 0.0
        pieces[-1] += character
        filled += needed
    return pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class TextBlock:
    """Text broken into lines at the size at which it fits."""

    lines: tuple[str, ...]
    font: str
    size: int

    @property
    def line_height(self) -> int:
        """From one baseline to the next, in pixels."""
        return round(self.size * (_LINE_HEIGHT if self.font == REGULAR else 1.08))

    @property
    def height(self) -> int:
        """Of all lines, in pixels."""
        return self.line_height * len(self.lines)

    def draw(self, draw: ImageDraw.ImageDraw, at: tuple[int, int], *, fill: Rgb) -> None:
        """Draw the lines, the first one's top left corner at `at`."""
        left, top = at
        for index, line in enumerate(self.lines):
            baseline = top + index * self.line_height + round(self.size * 0.78)
            draw.text(
                (left, baseline), line, font=_font(self.font, self.size), fill=fill, anchor="ls"
            )


def fit(
    text: str, *, width: int, height: int, sizes: Sequence[tuple[int, str]]
) -> TextBlock | None:
    """The text at the first of `sizes` (size and font) at which it fits and breaks no word."""
    for size, font in sizes:
        longest = max(width_of(word, font=font, size=size) for word in text.split(" "))
        if longest > width and (size, font) != sizes[-1]:
            continue
        lines = wrap(text, width=width, font=font, size=size)
        block = TextBlock(lines=tuple(lines), font=font, size=size)
        if block.height <= height:
            return block
    return None


def cut(text: str, *, width: int, height: int, size: tuple[int, str]) -> TextBlock:
    """The lines of the text that the box has room for at this size and font."""
    pixels, font = size
    block = TextBlock(lines=(), font=font, size=pixels)
    lines = wrap(text, width=width, font=font, size=pixels)[: height // block.line_height]
    return TextBlock(lines=(*lines[:-1], lines[-1][:-1] + "…"), font=font, size=pixels)


def one_line(text: str, *, width: float, font: str, sizes: Sequence[int]) -> TextBlock:
    """The text on one line, its middle left out where even the last size is too wide."""
    shown = text
    for size in sizes:
        if width_of(text, font=font, size=size) <= width:
            return TextBlock(lines=(text,), font=font, size=size)
    kept = len(text)
    while kept > 1 and width_of(shown, font=font, size=sizes[-1]) > width:
        kept -= 1
        shown = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return TextBlock(lines=(shown,), font=font, size=sizes[-1])
