import json
from ipaddress import ip_network

import pytest

from assetgen_pipeline.domain.batch_file import CsvLimits
from assetgen_pipeline.domain.image_request import AspectRatio, ReferenceMode
from assetgen_pipeline_tests.builders import BUCKET, a_csv, a_row, found, parse, problems_of


def test_every_column_of_ours_is_read():
    url = f"gs://{BUCKET}/packs/a/b.png"
    (request,) = parse(
        a_row(
            variants=" 3 ",
            reference_urls=f"https://example.com/a.png | {url}",
            reference_mode="Style_and_Composition",
            ref_pack_id=" warm pack ",
            aspect_ratio="16:9",
            notes="untouched ",
        )
    ).requests

    assert request.variants == 3
    assert request.reference_urls == ("https://example.com/a.png", url)
    assert request.reference_mode is ReferenceMode.STYLE_AND_COMPOSITION
    assert request.ref_pack_id == "warm pack"
    assert request.aspect_ratio is AspectRatio.LANDSCAPE
    assert request.cells[-1] == "untouched "


@pytest.mark.parametrize(
    "header", ["ref_pack_public_urls", "REF_PACK_PUBLIC_URL", " Reference_URLs"]
)
def test_the_aliases_of_reference_urls_are_read_whatever_their_case(header):
    (request,) = parse(a_row(**{header: "https://example.com/a https://example.com/b"})).requests

    assert len(request.reference_urls) == 2


def test_a_json_array_of_urls_is_read_and_the_same_url_counts_once():
    urls = json.dumps(["https://example.com/a|b", *["https://example.com/c"] * 9])

    (request,) = parse(a_row(reference_urls=urls)).requests

    assert request.reference_urls == ("https://example.com/a|b", "https://example.com/c")


@pytest.mark.parametrize(
    "scene_id",
    ["", ".", "..", "../../etc/passwd", "a/b", "a\\b", "a%2fb", "a\n", '"a "', "a.", "é", "e\u0301",
     "aux.png", "~", "=cmd", "😀", "a" * 51, "\u202egnp.exe", '"', "a b", " a", "a "],
)  # fmt: skip
def test_a_scene_id_is_made_of_letters_digits_hyphen_and_underscore(scene_id):
    assert found(a_csv([scene_id, "p"])) == [(2, "scene_id", "scene-id-invalid")]


@pytest.mark.parametrize("scene_id", ["a", "a" * 50, "-rf", "CON", "null", "A_1-b"])
def test_any_other_scene_id_is_fine(scene_id):
    assert parse(a_csv([scene_id, "p"])).requests[0].scene_id == scene_id


def test_a_scene_id_is_unique_and_the_problem_says_where_it_stood():
    (problem,) = problems_of(a_csv(["S1", "p"], ["S2", "p"], ["S1", "q"], ["s1", "other case"]))

    assert (problem.line, problem.column, problem.code) == (4, "scene_id", "scene-id-invalid")
    assert problem.detail == "the same scene_id stands on line 2"


@pytest.mark.parametrize(
    ("column", "cell"),
    [("variants", c) for c in ["0", "4", "-1", "1.0", "1e0", "x", "１", "2 3"]]
    + [("aspect_ratio", c) for c in ["2:1", "16x9", "1:1:1"]]
    + [("aspect", "square"), ("reference_mode", "style"), ("reference_mode", "STYLE")]
    + [("ref_pack_id", c) for c in ["..", ".", "a/b", "../../x", "a\\b", "a\u202eb", "a" * 129]],
)  # fmt: skip
def test_a_cell_that_breaks_its_rule_is_invalid(column, cell):
    assert found(a_row(**{column: cell})) == [(2, column, "row-invalid")]


@pytest.mark.parametrize(
    "prompt", ["", "   ", "\u3000", "\u200b" * 10, "\u200d\ufe0f", "x" * 1001, "x" * 8001]
)
def test_a_prompt_has_1_to_1000_characters_after_trimming(prompt):
    assert found(a_csv(["S1", prompt])) == [(2, "prompt", "row-invalid")]


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("ftp://x/", "reference-url-invalid"),
        ("not-a-url", "reference-url-invalid"),
        ("[", "reference-url-invalid"),
        ("[1]", "reference-url-invalid"),
        ('["\\ud800"]', "reference-url-invalid"),
        ("[" * 60_000, "reference-url-invalid"),
        ("https://127.0.0.1/a.png", "reference-blocked"),
        ("http://example.com/a.png", "reference-blocked"),
        ("gs://other/x", "reference-not-permitted"),
        (" ".join(f"https://example.com/{n}" for n in range(7)), "row-invalid"),
    ],
)
def test_a_reference_that_cannot_be_used_rejects_the_file(cell, code):
    assert found(a_row(reference_urls=cell)) == [(2, "reference_urls", code)]


def test_each_bad_reference_of_a_cell_is_named_by_its_place():
    cell = "https://example.com/a https://10.0.0.1/ ftp://x/"

    details = [p.detail for p in problems_of(a_row(ref_pack_public_url=cell))]

    assert details == [
        "reference 2: this address is not on the public internet",
        "reference 3: it must begin with https:// or gs://",
    ]


def test_an_allowed_network_is_an_exception_for_literal_addresses():
    limits = CsvLimits(allowed_networks=(ip_network("127.0.0.0/8"),))
    data = a_row(reference_urls="http://127.0.0.1:8000/a.png")

    assert parse(data, limits=limits).requests[0].reference_urls == ("http://127.0.0.1:8000/a.png",)
