import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetgen_pipeline.domain.csv_cells import escape_cell, unescape_cell, write_csv

HOSTILE = [
    "=1+1", "+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "＝1+1", "＋1", "－1", "＠x", "﹦1",
    " =1", "\u200b=1", "\xa0=1", "|calc", "%x", '=HYPERLINK("http://x","y")', "=cmd|'/c calc'!A0",
    "'", "'=1", "''", "'quoted", "\tplain",
]  # fmt: skip
HARMLESS = ["", "a", "1", "a=b", "a-b", "it's", " text", "😀", "007", "<b>", "…", "  "]
cells = st.text(st.characters(exclude_categories=["Cs"])) | st.text("'=+ -@|%\t\r\n\",;ab＝\u200b")


@pytest.mark.parametrize("cell", HOSTILE)
def test_a_cell_that_a_spreadsheet_would_run_gets_one_apostrophe(cell):
    assert escape_cell(cell) == f"'{cell}"
    assert unescape_cell(f"'{cell}") == cell


@pytest.mark.parametrize("cell", HARMLESS)
def test_any_other_cell_is_left_alone(cell):
    assert escape_cell(cell) == cell
    assert unescape_cell(cell) == cell


def test_an_apostrophe_before_an_ordinary_word_is_the_word_s_own():
    assert unescape_cell("'tis") == "'tis"


@given(cells)
def test_unescape_undoes_escape_for_every_text(cell):
    assert unescape_cell(escape_cell(cell)) == cell


@given(cells)
def test_an_escaped_cell_never_starts_a_formula(cell):
    assert not escape_cell(cell).lstrip().startswith(("=", "+", "-", "@", "|", "%", "＝"))


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(cells, min_size=n, max_size=n))))
def test_what_is_written_reads_back_as_the_same_cells(rows):
    data = write_csv(["h"] * (len(rows[0]) if rows else 1), rows)

    lines = io.StringIO(data.decode(), newline="")
    read = [[unescape_cell(cell) for cell in row] for row in csv.reader(lines, strict=True)]

    assert read[1:] == rows


def test_lines_end_in_a_line_feed_and_quotes_stand_where_needed():
    assert write_csv(["a", "b"], [["1,2", 'say "x"'], ["c\rd", " e"]]) == (
        b'a,b\n"1,2","say ""x"""\n"c\rd"," e"\n'
    )


def test_a_record_of_one_empty_cell_is_no_blank_line():
    assert write_csv(["a"], [[""]]) == b'a\n""\n'
