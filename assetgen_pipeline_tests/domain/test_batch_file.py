import csv
import json
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetgen_pipeline.domain.batch_file import CsvLimits, parse_batch_file
from assetgen_pipeline.domain.errors import BatchRejected
from assetgen_pipeline.domain.image_request import AspectRatio, ReferenceMode
from assetgen_pipeline_tests.builders import BUCKET, OWNER, a_csv

LIMITS = CsvLimits()


def parse(data, *, limits=LIMITS):
    if isinstance(data, str):
        data = data.encode()
    return parse_batch_file(data, limits=limits, own_bucket=BUCKET, owner=OWNER)


def problems(data, *, limits=LIMITS):
    with pytest.raises(BatchRejected) as caught:
        parse(data, limits=limits)
    return caught.value.problems


def found(data, *, limits=LIMITS):
    return [(p.line, p.column, p.code) for p in problems(data, limits=limits)]


def one(data, *, limits=LIMITS):
    (problem,) = problems(data, limits=limits)
    return problem


def a_row(**cells):
    return a_csv(["S1", "p", *cells.values()], header=["scene_id", "prompt", *cells.keys()])


def test_a_row_without_more_has_the_defaults():
    parsed = parse("scene_id,prompt\nS1, a kitchen \n")

    assert parsed.header == ("scene_id", "prompt")
    (request,) = parsed.requests
    assert (request.row_number, request.line) == (1, 2)
    assert (request.scene_id, request.prompt, request.variants) == ("S1", "a kitchen", 1)
    assert (request.reference_urls, request.ref_pack_id) == ((), "")
    assert request.reference_mode is ReferenceMode.STYLE_ONLY
    assert request.aspect_ratio is AspectRatio.SQUARE
    assert request.cells == ("S1", " a kitchen ")


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


def test_short_rows_and_blank_rows_are_what_spreadsheets_leave_behind():
    parsed = parse("\nscene_id,prompt,notes\nS1,p\n\n,,\nS2,q,x\n ,\n")

    assert [(r.row_number, r.line, r.cells) for r in parsed.requests] == [
        (1, 3, ("S1", "p", "")),
        (2, 6, ("S2", "q", "x")),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_bom_either_line_end_and_line_breaks_in_cells_are_fine(end):
    text = f'\ufeffscene_id,prompt{end}S1,"two{end}lines"{end}S2,"a\rb"'

    parsed = parse(text)

    assert parsed.header[0] == "scene_id"
    assert [r.prompt for r in parsed.requests] == [f"two{end}lines", "a\rb"]
    assert [r.line for r in parsed.requests] == [2, 4]


def test_mixed_line_ends_are_fine():
    assert len(parse("scene_id,prompt\r\nS1,p\nS2,q\r\n").requests) == 2


def test_an_apostrophe_before_a_formula_is_taken_off_and_cells_hold_the_plain_value():
    (request,) = parse("scene_id,prompt,'=x\n'-rf,'=1+1,''quoted\n").requests

    assert (request.scene_id, request.prompt) == ("-rf", "=1+1")
    assert request.cells == ("-rf", "=1+1", "'quoted")


@pytest.mark.parametrize(
    "prompt",
    ["NA", "null", "None", "nan", "007", "1e5", "TRUE", "=1+1", "＝1", "{{7*7}}", "%s%n",
     "</script>", "../../x", "👩‍🚀 flies", "\u202egnp.exe", "x" * 1000, "a\tb", "'tis", "é"],
)  # fmt: skip
def test_a_prompt_is_text_and_means_nothing_else(prompt):
    (request,) = parse(a_csv(["S1", prompt])).requests

    assert request.prompt == prompt


def test_a_file_of_results_can_be_dropped_again():
    header = ["scene_id", "prompt", "aspect", "status", "image_url_1", "error"]

    parsed = parse(a_csv(["S1", "p", "4:3", "failed", "https://x", "-"], header=header))

    assert parsed.requests[0].cells == ("S1", "p", "4:3", "failed", "https://x", "-")


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("empty", b"", (1, "", "csv-header")),
        ("only blank lines", b"\n\n,,\n", (1, "", "csv-header")),
        ("only a bom", b"\xef\xbb\xbf", (1, "", "csv-header")),
        ("header only", b"scene_id,prompt\n", (1, "", "csv-malformed")),
        ("utf-16 le", "scene_id,prompt\nS1,p".encode("utf-16"), (1, "", "csv-encoding")),
        ("utf-16 be", b"\xfe\xff\0s", (1, "", "csv-encoding")),
        ("utf-16 bare", "scene_id".encode("utf-16-le"), (1, "", "csv-encoding")),
        ("cp1252", "scene_id,prompt\nS1,café".encode("cp1252"), (2, "", "csv-encoding")),
        ("surrogates", b"scene_id,prompt\nS1,\xed\xa0\x80", (2, "", "csv-encoding")),
        ("no prompt", b"scene_id\nS1\n", (1, "", "csv-header")),
        ("neither", b"a,b\n1,2\n", (1, "", "csv-header")),
        ("semicolons", b"scene_id;prompt\nS1;p\n", (1, "", "csv-header")),
        ("tabs", b"scene_id\tprompt\nS1\tp\n", (1, "", "csv-header")),
        ("same header", b"scene_id,prompt,a,A \nS1,p\n", (1, "A", "csv-header")),
        ("same header", b"scene_id,prompt,Prompt\nS1,p\n", (1, "Prompt", "csv-header")),
        ("alias", b"scene_id,prompt,aspect,aspect_ratio\nS1,p\n", (1, "aspect_ratio", "csv-header")),
        ("empty header", b"scene_id,prompt, \nS1,p\n", (1, "", "csv-header")),
        ("zero width", "scene_id,prompt,a\u200b\nS1,p\n".encode(), (1, "", "csv-header")),
        ("nul in header", b"scene_id,prompt,a\0\nS1,p\n", (1, "", "csv-header")),
        ("long row", b"scene_id,prompt\nS1,p,\n", (2, "", "csv-malformed")),
        ("open quote", b'scene_id,prompt\nS1,p\nS2,"q\nS3,r\n', (3, "", "csv-malformed")),
        ("text after quote", b'scene_id,prompt\nS1,"x"y\n', (2, "", "csv-malformed")),
        ("open quote in header", b'scene_id,"prompt\nS1,x\n', (1, "", "csv-malformed")),
        ("lone carriage return", b"scene_id,prompt\nS1,p\rS2,q\n", (2, "", "csv-malformed")),
        ("endless record", b"scene_id,prompt\n" + b"," * 9_000_000, (2, "", "csv-malformed")),
        ("endless cell", b'scene_id,prompt\nS1,"' + b"x" * 140_000, (2, "", "csv-malformed")),
        ("large cell", b"scene_id,prompt,n\nS1,p," + b"x" * 65_537, (2, "n", "row-invalid")),
        ("nul", b"scene_id,prompt\nS1,a\0b\n", (2, "prompt", "row-invalid")),
        ("ansi", b"scene_id,prompt\nS1,\x1b[2J\n", (2, "prompt", "row-invalid")),
        ("c1", "scene_id,prompt,n\nS1,p,\x85\n".encode(), (2, "n", "row-invalid")),
    ],
)  # fmt: skip
def test_a_hostile_file_is_refused_for_what_it_is(name, data, expected):
    assert found(data) == [expected]


def test_an_encoding_problem_names_the_byte_where_it_lies_in_the_file():
    data = b"\xef\xbb\xbfscene_id,prompt\nS1,caf\xe9\n"

    assert data.index(b"\xe9") == 25
    assert one(data).detail.startswith("byte 25 (0xE9) is not UTF-8")


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_another_separator_is_named(separator, name):
    assert f"separated by {name}" in one(f"scene_id{separator}prompt\nS1{separator}p\n").detail


def test_a_missing_column_is_named():
    assert one("prompt,x\np,1\n").detail == "there is no column scene_id"
    assert one("x\n1\n").detail == "there is no column scene_id and no column prompt"


def test_a_column_written_twice_says_where():
    assert one("scene_id,prompt,aspect,ASPECT_RATIO\nS1,p\n").detail == (
        "column 4: columns 3 and 4 are the same column, also written aspect"
    )
    assert (
        one("scene_id,prompt,x,x\nS1,p\n").detail == "column 4: columns 3 and 4 are the same column"
    )


def test_a_problem_in_a_column_without_a_presentable_name_names_none():
    assert found("scene_id,prompt,\nS1,p,\x01\n") == [
        (1, "", "csv-header"),
        (2, "", "row-invalid"),
    ]


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
    problem = one(a_csv(["S1", "p"], ["S2", "p"], ["S1", "q"], ["s1", "other case"]))

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


@pytest.mark.parametrize("prompt", ["", "   ", "\u3000", "x" * 1001, "x" * 8001])
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

    details = [p.detail for p in problems(a_row(ref_pack_public_url=cell))]

    assert details == [
        "reference 2: this address is not on the public internet",
        "reference 3: it must begin with https:// or gs://",
    ]


def test_an_allowed_network_is_an_exception_for_literal_addresses():
    limits = CsvLimits(allowed_networks=(ip_network("127.0.0.0/8"),))
    data = a_row(reference_urls="http://127.0.0.1:8000/a.png")

    assert parse(data, limits=limits).requests[0].reference_urls == ("http://127.0.0.1:8000/a.png",)


def test_all_problems_of_a_file_are_reported_at_once_in_their_order():
    data = "scene_id,prompt,variants,x,x\nS 1,,9\nS2,p,1\nS2,p,1\n,p,1,a,b,c\nS3,\x01\nS4,p\rq\n"

    assert found(data) == [
        (1, "x", "csv-header"),
        (2, "scene_id", "scene-id-invalid"),
        (2, "prompt", "row-invalid"),
        (2, "variants", "row-invalid"),
        (4, "scene_id", "scene-id-invalid"),
        (5, "", "csv-malformed"),
        (6, "prompt", "row-invalid"),
        (7, "", "csv-malformed"),
    ]


def test_a_file_full_of_problems_keeps_a_thousand_and_counts_all():
    with pytest.raises(BatchRejected) as caught:
        parse(a_csv(*[["", ""]] + [["S", ""]] * 1500))

    assert len(caught.value.problems) == 1000
    assert caught.value.total == 1500 + 1499


def test_no_problem_quotes_what_the_file_said():
    secret = "hunter2"
    data = a_csv(
        [f"{secret} ", secret * 200, f"https://{secret}:x@h/", secret, secret],
        header=["scene_id", "prompt", "reference_urls", "variants", "aspect"],
    )

    assert all(secret not in p.detail for p in problems(data))


def test_the_limits_on_bytes_rows_and_columns_hold():
    rows = [[f"S{n}", "p"] for n in range(4)]
    limits = CsvLimits(max_rows=3, max_columns=2)

    assert len(parse(a_csv(*rows[:3]), limits=limits).requests) == 3
    assert found(a_csv(*rows), limits=limits) == [(5, "", "row-limit")]
    assert found(b"scene_id,prompt,c\nS1,p\n", limits=limits) == [(1, "", "csv-header")]
    assert found(a_csv(*rows), limits=CsvLimits(max_bytes=10)) == [(1, "", "csv-too-large")]


def test_a_long_file_is_not_read_past_the_row_limit():
    data = b"scene_id,prompt\n" + b"".join(b"S%d,p\n" % n for n in range(200_000))

    assert found(data) == [(10_002, "", "row-limit")]


def test_blank_rows_come_to_an_end(monkeypatch):
    monkeypatch.setattr("assetgen_pipeline.domain.batch_file._MAX_BLANK_RECORDS", 5)

    assert len(parse(b"scene_id,prompt\nS1,p\n\n\n\n\n\n").requests) == 1
    assert found(b"scene_id,prompt\nS1,p\n\n\n\n\n\n\nS2,q\n") == [(8, "", "csv-malformed")]


def test_parsing_changes_no_setting_of_the_process():
    before = csv.field_size_limit()
    parse(a_csv(["S1", "p"]))

    assert csv.field_size_limit() == before


@given(st.binary() | st.text().map(lambda t: b"scene_id,prompt\n" + t.encode(errors="ignore")))
def test_any_bytes_are_parsed_or_rejected_with_codes(data):
    try:
        parsed = parse(data)
    except BatchRejected as error:
        assert all(problem.code and problem.line >= 1 for problem in error.problems)
    else:
        assert parsed.requests


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=50), min_size=1, max_size=5
    )
)
def test_passthrough_cells_survive_writing_and_parsing(cells):
    header = ["scene_id", "prompt", *(f"c{n}" for n in range(len(cells)))]

    (request,) = parse(a_csv(["S1", "p", *cells], header=header)).requests

    assert request.cells == ("S1", "p", *cells)


SHEET = (
    "scene_id,mode,prompt,ref_pack_id,ref_pack_url,ref_pack_public_url,aspect,resolution,locked_by\n"
    'SEQ01-001,sequence,"Cozy kitchen, warm wood",RP-kitchen-cozy,'
    "https://drive.google.com/drive/folders/example1,"
    "https://storage.googleapis.com/bucket/refs/kitchen-cozy,16:9,720,\n"
    "VAR-1,variation,Modern kitchen,RP-2,https://drive.google.com/x,"
    "https://storage.googleapis.com/bucket/refs/2,9:16,1080"
)


def test_the_data_team_s_sheet_is_accepted_as_it_is():
    first, second = parse(SHEET).requests

    assert first.reference_urls == ("https://storage.googleapis.com/bucket/refs/kitchen-cozy",)
    assert (first.ref_pack_id, first.aspect_ratio) == ("RP-kitchen-cozy", AspectRatio.LANDSCAPE)
    assert len(second.cells) == 9


SHARED = sorted((Path(__file__).parents[2] / "assetgen_pipeline" / "data" / "samples").glob("predecessor-*.csv"))


@pytest.mark.skipif(not SHARED, reason="the sheets are on the build machine alone")
def test_the_sheets_of_this_machine_are_accepted():
    assert [len(parse(path.read_bytes()).requests) for path in SHARED] == [6, 3]
