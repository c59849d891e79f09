"""CSV cells on their way out and back: formula escaping, and the writer.

JSON is the lossless form; this is what a spreadsheet may safely open.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

_FORMULA_STARTS = frozenset("=+-@|%")
_NEEDS_QUOTES = re.compile(r'[",;\r\n\t]|\A\s|\s\Z')


def escape_cell(cell: str) -> str:
    """The cell with one apostrophe in front where a spreadsheet would run or swallow its start."""
    return f"'{cell}" if _needs_apostrophe(cell) else cell


def unescape_cell(cell: str) -> str:
    """The inverse: takes off one apostrophe that stands before a cell that needs one."""
    return cell[1:] if cell.startswith("'") and _needs_apostrophe(cell[1:]) else cell


def write_csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    r"""A CSV in UTF-8 without BOM, escaped, with lines that end in `\n` on every platform.

    Not `csv.writer`: before Python 3.13 it leaves a lone `\r` unquoted when lines end in `\n`.
    """
    return "".join(_record(cells) for cells in (header, *rows)).encode()


def _record(cells: Sequence[str]) -> str:
    line = ",".join(_quoted(escape_cell(cell)) for cell in cells)
    # A record of one empty cell would be a blank line, which readers skip.
    return (line or '""') + "\n"


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if _NEEDS_QUOTES.search(cell) else cell


def _needs_apostrophe(cell: str) -> bool:
    if cell.startswith(("'", "\t", "\r", "\n")):
        return True
    first = next((char for char in cell if not _is_skipped(char)), "")
    # Compatibility forms (fullwidth ＝, small ﹦) are folded by spreadsheets, so fold them too.
    return bool(first) and unicodedata.normalize("NFKC", first)[0] in _FORMULA_STARTS


def _is_skipped(char: str) -> bool:
    return char.isspace() or unicodedata.category(char) in {"Cf", "Cc"}
