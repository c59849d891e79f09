"""The batch file: a stranger's bytes in, valid requests or every problem of them out.

What one of our columns may hold is in `request_row`, how bytes become text in `csv_encoding`;
this module knows records, header and limits.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from assetgen_pipeline.domain.csv_cells import unescape_cell
from assetgen_pipeline.domain.csv_encoding import decoded
from assetgen_pipeline.domain.errors import BatchRejected, FileProblem
from assetgen_pipeline.domain.image_request import ImageRequest
from assetgen_pipeline.domain.reference_url import Network
from assetgen_pipeline.domain.request_row import FIELDS, ReferenceRules, RowInvalid, read_row
from assetgen_pipeline.domain.result_columns import RESULT_COLUMNS

MAX_CELL_CHARACTERS = 65_536
_PROBLEMS_KEPT = 1_000
# The rows of a spreadsheet; 60 MiB of line feeds would keep us busy for a minute.
_MAX_BLANK_RECORDS = 1_048_576
_LABEL_CHARACTERS = 80
_REQUIRED = ("scene_id", "prompt")
_ALIASES = {
    "ref_pack_public_urls": "reference_urls",
    "ref_pack_public_url": "reference_urls",
    "aspect": "aspect_ratio",
}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_TOO_LONG = f"a record is too long, or a cell passes {MAX_CELL_CHARACTERS:,} characters"
# csv.Error has no codes; these are parts of CPython's messages.
_MALFORMED = (
    ("unexpected end of data", "a quote opens here and never closes"),
    ("expected after", "text follows a closing quote; write a quote in a cell as two quotes"),
    ("new-line character", "a carriage return stands alone; end lines with LF or CRLF"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvLimits:
    """How much a file may ask of us."""

    max_bytes: int = 64 * 1024 * 1024
    max_rows: int = 10_000
    max_columns: int = 64
    """Without those that `results.csv` adds, so that it can be dropped again."""
    allowed_networks: tuple[Network, ...] = ()
    own_endpoint: str = ""
    """The emulator's address, where one stands in for Google."""

    @property
    def most_columns(self) -> int:
        """Of a file of results."""
        return self.max_columns + len(RESULT_COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedFile:
    """A valid file: its header as it stood, and its rows."""

    header: tuple[str, ...]
    requests: tuple[ImageRequest, ...]


def parse_batch_file(data: bytes, *, limits: CsvLimits, own_bucket: str, owner: str) -> ParsedFile:
    """Read a whole file, or say everything that is wrong with it.

    Blank lines, and rows of blank cells alone, are skipped as spreadsheets leave them behind.

    Raises:
        BatchRejected: with every problem found (the first 1,000 kept, all counted).
    """
    problems = _Problems()
    check_size(len(data), limits)
    records = _records(decoded(data), limits=limits, problems=problems)
    header = next(records, None)
    if header is None:
        problems.reject_if_any()
        raise _rejection(1, "csv-header", "the file is empty; it needs a header row")
    columns = _read_header(header, limits=limits, problems=problems)
    rules = ReferenceRules(
        allowed_networks=limits.allowed_networks,
        own_bucket=own_bucket,
        owner=owner,
        own_endpoint=limits.own_endpoint,
    )
    rows = _Rows(header=header.cells, columns=columns, rules=rules, problems=problems)
    for record in records:
        if len(rows.lines) == limits.max_rows:
            detail = f"the file has more than {limits.max_rows:,} rows"
            problems.add(record.line, "", "row-limit", detail)
            break
        rows.read(record)
    if not rows.lines and not problems.kept:
        problems.add(header.line, "", "csv-malformed", "the file has a header and no rows")
    problems.reject_if_any()
    return ParsedFile(header=header.cells, requests=tuple(rows.requests))


@dataclass(slots=True)
class _Problems:
    kept: list[FileProblem] = field(default_factory=list)
    total: int = 0

    def add(self, line: int, column: str, code: str, detail: str) -> None:
        self.total += 1
        if self.total <= _PROBLEMS_KEPT:
            self.kept.append(FileProblem(line, column, code, detail))

    def reject_if_any(self) -> None:
        if self.kept:
            raise BatchRejected(self.kept, total=self.total)


def check_size(size: int, limits: CsvLimits) -> None:
    """Judge a file by its size, before anybody reads it into memory.

    Raises:
        BatchRejected: it is too large.
    """
    if size > limits.max_bytes:
        detail = f"the file has {size:,} bytes; {limits.max_bytes:,} are allowed"
        raise _rejection(1, "csv-too-large", detail)


def _rejection(line: int, code: str, detail: str) -> BatchRejected:
    return BatchRejected([FileProblem(line, "", code, detail)])


@dataclass(frozen=True, slots=True)
class _Record:
    line: int
    cells: tuple[str, ...]


class _Lines:
    """The lines of a text, at most `limit` characters for each record of it.

    Without it one record of 64 MiB of commas would become millions of cells.
    """

    def __init__(self, text: str, *, limit: int) -> None:
        self._lines = io.StringIO(text)
        self._limit = limit
        self._left = limit

    def begin_record(self) -> None:
        self._left = self._limit

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._left -= len(line)
        if self._left < 0:
            raise csv.Error(_TOO_LONG)
        return line


def _records(text: str, *, limits: CsvLimits, problems: _Problems) -> Iterator[_Record]:
    """All records that are not blank, up to the first that is malformed."""
    lines = _Lines(text, limit=limits.most_columns * (2 * MAX_CELL_CHARACTERS + 3))
    # Its own limit on a cell (131,072) is global to the process, so ours is checked per row.
    reader = csv.reader(lines, strict=True)
    line = blank = 0
    while blank <= _MAX_BLANK_RECORDS:
        line = reader.line_num + 1
        lines.begin_record()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            found = (text for part, text in _MALFORMED if part in str(error))
            problems.add(line, "", "csv-malformed", next(found, _TOO_LONG))
            return
        if any(cell.strip() for cell in cells):
            yield _Record(line, tuple(unescape_cell(cell) for cell in cells))
        else:
            blank += 1
    problems.add(line, "", "csv-malformed", f"more than {_MAX_BLANK_RECORDS:,} rows are blank")


def _read_header(header: _Record, *, limits: CsvLimits, problems: _Problems) -> dict[str, int]:
    """Where our columns stand; rejects the file where it has none that a row must have."""
    columns: dict[str, int] = {}
    for index, name in enumerate(header.cells):
        known = normalized_column(name)
        detail = _name_problem(known)
        if not detail and known in columns:
            earlier = header.cells[columns[known]]
            detail = f"columns {columns[known] + 1} and {index + 1} are the same column"
            detail += f", also written {_label(earlier)}" if earlier != name else ""
        if detail:
            shown = "" if _name_problem(known) else _label(name)
            problems.add(header.line, shown, "csv-header", f"column {index + 1}: {detail}")
        columns.setdefault(known, index)
    counted = sum(normalized_column(name) not in RESULT_COLUMNS for name in header.cells)
    if counted > limits.max_columns:
        detail = f"the header has {counted} columns; {limits.max_columns} are allowed"
        problems.add(header.line, "", "csv-header", detail)
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        detail = f"there is no column {' and no column '.join(missing)}"
        problems.add(header.line, "", "csv-header", _separator_hint(header) or detail)
        if len(missing) == len(_REQUIRED):
            problems.reject_if_any()
    return {name: index for name, index in columns.items() if name in FIELDS}


def normalized_column(name: str) -> str:
    """The name that a header cell is matched by: ours where it is an alias of ours."""
    key = unicodedata.normalize("NFKC", name).strip().casefold()
    return _ALIASES.get(key, key)


def _name_problem(name: str) -> str:
    if not name:
        return "the header cell is empty"
    if _CONTROL.search(name) or any(unicodedata.category(char) == "Cf" for char in name):
        return "the name holds control or invisible characters"
    return ""


def _separator_hint(header: _Record) -> str:
    for separator, name in ((";", "semicolons (;)"), ("\t", "tabs")):
        if any(separator in cell for cell in header.cells):
            return f"the file is separated by {name}; save it separated by commas"
    return ""


def _label(name: str) -> str:
    return name.strip()[:_LABEL_CHARACTERS]


@dataclass(kw_only=True)
class _Rows:
    """The rows read so far; remembers which scene stood where."""

    header: Sequence[str]
    columns: Mapping[str, int]
    rules: ReferenceRules
    problems: _Problems
    requests: list[ImageRequest] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    scenes: dict[str, int] = field(default_factory=dict)

    def read(self, record: _Record) -> None:
        self.lines.append(record.line)
        width = len(self.header)
        if len(record.cells) > width:
            detail = f"the row has {len(record.cells)} cells; the header has {width}"
            self.problems.add(record.line, "", "csv-malformed", detail)
            # Its cells have moved, so that no other rule can be judged; its name is taken.
            if "scene_id" in self.columns:
                self._note_scene(record.line, record.cells[self.columns["scene_id"]])
            return
        cells = record.cells + ("",) * (width - len(record.cells))
        self._read_fields(record.line, cells, unreadable=self._unreadable(record.line, cells))

    def _unreadable(self, line: int, cells: Sequence[str]) -> set[int]:
        """The places of the cells that no rule of their column can be judged by."""
        found = set()
        for index, (name, cell) in enumerate(zip(self.header, cells, strict=True)):
            if len(cell) > MAX_CELL_CHARACTERS:
                found.add(index)
                detail = f"the cell passes {MAX_CELL_CHARACTERS:,} characters"
                self.problems.add(line, self._shown(name), "row-invalid", detail)
            if _CONTROL.search(cell):
                found.add(index)
                detail = "the cell holds control characters"
                self.problems.add(line, self._shown(name), "row-invalid", detail)
        return found

    def _read_fields(self, line: int, cells: tuple[str, ...], *, unreadable: set[int]) -> None:
        ours = {n: cells[index] for n, index in self.columns.items() if index not in unreadable}
        self._note_scene(line, ours.get("scene_id", ""))
        try:
            values = read_row(ours, rules=self.rules)
        except RowInvalid as error:
            # What could not be read, or has no column, is said already.
            for problem in (found for found in error.problems if found.field in ours):
                column = self._shown(self.header[self.columns[problem.field]])
                self.problems.add(line, column, problem.code, problem.detail)
            return
        if not unreadable:
            request = {"row_number": len(self.lines), "line": line, "cells": cells, **values}
            self.requests.append(ImageRequest.model_validate(request))

    def _note_scene(self, line: int, scene_id: str) -> None:
        earlier = self.scenes.setdefault(scene_id, line)
        if scene_id and earlier != line:
            column = self._shown(self.header[self.columns["scene_id"]])
            detail = f"the same scene_id stands on line {earlier}"
            self.problems.add(line, column, "scene-id-invalid", detail)

    def _shown(self, name: str) -> str:
        return "" if _name_problem(normalized_column(name)) else _label(name)
