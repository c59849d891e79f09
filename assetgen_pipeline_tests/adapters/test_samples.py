"""The files that come with the package: samples, fonts and their licence."""

import csv
import io
from importlib import resources

import pytest

from assetgen_pipeline.domain.batch_file import CsvLimits, parse_batch_file
from assetgen_pipeline.domain.errors import BatchRejected

DATA = resources.files("assetgen_pipeline") / "data"
HEADER = ["scene_id", "prompt", "variants", "reference_urls", "reference_mode", "aspect_ratio"]


def rows(name):
    text = (DATA / "samples" / name).read_text("utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def parsed(name):
    data = (DATA / "samples" / name).read_bytes()
    return parse_batch_file(data, limits=CsvLimits(), own_bucket="assetgen-local", owner="demo")


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("storyboard.csv", 16),
        ("unreachable-references.csv", 5),
        ("predecessor-sheet.csv", 6),
        ("predecessor-test.csv", 6),
    ],
)
def test_a_good_sample_is_accepted(name, images):
    assert sum(request.variants for request in parsed(name).requests) == images


def test_the_invalid_sample_is_rejected_for_a_problem_on_each_line_but_the_first():
    with pytest.raises(BatchRejected) as caught:
        parsed("invalid.csv")
    assert {problem.line for problem in caught.value.problems} == {3, 4, 5, 6, 7, 8, 9}


def test_the_storyboard_is_a_dozen_clean_rows_that_need_no_network():
    storyboard = rows("storyboard.csv")
    assert len(storyboard) == 12
    assert len({row["scene_id"] for row in storyboard}) == 12
    assert {row["aspect_ratio"] for row in storyboard} == {"1:1", "16:9", "9:16", "4:3", "3:4"}
    assert {row["variants"] for row in storyboard} == {"1", "2"}
    assert all(0 < len(row["prompt"]) <= 1000 for row in storyboard)
    assert "://" not in str(storyboard)


def test_unreachable_references_fail_in_dns():
    with_references = [row for row in rows("unreachable-references.csv") if row["reference_urls"]]
    assert len(rows("unreachable-references.csv")) == 5
    assert len(with_references) == 3
    for row in with_references:
        assert row["reference_urls"].count("https://") == row["reference_urls"].count(".invalid/")


def test_the_invalid_sample_has_problems_on_several_lines():
    invalid = rows("invalid.csv")
    assert len(invalid) == 8
    assert list(invalid[0]) == HEADER
    assert invalid[0]["scene_id"] == invalid[4]["scene_id"]
    assert invalid[-1][None] == ["surplus"]


@pytest.mark.parametrize(
    ("name", "columns", "first"),
    [("predecessor-sheet.csv", 22, "SEQ01-001"), ("predecessor-test.csv", 14, "TEST-001")],
)
def test_the_predecessors_files_are_there(name, columns, first):
    assert len(rows(name)[0]) == columns
    assert rows(name)[0]["scene_id"] == first


def test_the_fonts_come_with_their_licence():
    assert {entry.name for entry in (DATA / "fonts").iterdir()} == {
        "Inter-Regular.otf",
        "Inter-Bold.otf",
        "Inter-OFL.txt",
    }
    assert "SIL OPEN FONT LICENSE" in (DATA / "fonts" / "Inter-OFL.txt").read_text("utf-8")
