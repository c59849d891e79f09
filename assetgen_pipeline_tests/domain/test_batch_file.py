import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetgen_pipeline.domain.batch_file import CsvLimits, check_size
from assetgen_pipeline.domain.errors import BatchRejected
from assetgen_pipeline.domain.image_request import AspectRatio, ReferenceMode
from assetgen_pipeline.domain.result_columns import RESULT_COLUMNS
from assetgen_pipeline_tests.builders import a_csv, found, parse, problems_of


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
        ("endless record", b"scene_id,prompt\n" + b"," * 11_000_000, (2, "", "csv-malformed")),
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
    assert problems_of(data)[0].detail.startswith("byte 25 (0xE9) is not UTF-8")


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_another_separator_is_named(separator, name):
    assert (
        f"separated by {name}"
        in problems_of(f"scene_id{separator}prompt\nS1{separator}p\n")[0].detail
    )


def test_a_missing_column_is_named():
    assert problems_of("prompt,x\np,1\n")[0].detail == "there is no column scene_id"
    assert problems_of("x\n1\n")[0].detail == "there is no column scene_id and no column prompt"


def test_a_column_written_twice_says_where():
    assert problems_of("scene_id,prompt,aspect,ASPECT_RATIO\nS1,p\n")[0].detail == (
        "column 4: columns 3 and 4 are the same column, also written aspect"
    )
    assert (
        problems_of("scene_id,prompt,x,x\nS1,p\n")[0].detail
        == "column 4: columns 3 and 4 are the same column"
    )


def test_a_problem_in_a_column_without_a_presentable_name_names_none():
    assert found("scene_id,prompt,\nS1,p,\x01\n") == [
        (1, "", "csv-header"),
        (2, "", "row-invalid"),
    ]


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


def test_a_cell_that_cannot_be_read_hides_no_other_problem_of_its_row():
    data = "scene_id,prompt,variants,x\ns1,a,9,x\x01y\ns1,b,9,z\ns1,c,1,q\x01\ns\x02,,1,\n"

    assert found(data) == [
        (2, "x", "row-invalid"),
        (2, "variants", "row-invalid"),
        (3, "scene_id", "scene-id-invalid"),
        (3, "variants", "row-invalid"),
        (4, "x", "row-invalid"),
        (4, "scene_id", "scene-id-invalid"),
        (5, "scene_id", "row-invalid"),
        (5, "prompt", "row-invalid"),
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("scene_id,variants\nS1,9\nS1,1\nS2,1,a\n", [(2, "variants", "row-invalid"),
            (3, "scene_id", "scene-id-invalid"), (4, "", "csv-malformed")]),
        ("prompt,variants\n,9\np,1,a\n", [(2, "prompt", "row-invalid"),
            (2, "variants", "row-invalid"), (3, "", "csv-malformed")]),
    ],
)  # fmt: skip
def test_a_missing_column_hides_no_problem_of_the_others(data, expected):
    assert found(data) == [(1, "", "csv-header"), *expected]


def test_the_first_lines_that_are_not_utf_8_are_named():
    rows = ["é", "plain", "naïve", "ü", "ö", "ä", "ß"]
    data = ("scene_id,prompt\n" + "\n".join(f"S,{prompt}" for prompt in rows)).encode("cp1252")

    problems = problems_of(data)

    assert [(p.line, p.code) for p in problems] == [(n, "csv-encoding") for n in (2, 4, 5, 6, 7)]
    for problem in problems:
        offset = int(problem.detail.split()[1].replace(",", ""))
        assert f"(0x{data[offset]:02X})" in problem.detail
        assert data.count(b"\n", 0, offset) + 1 == problem.line


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

    assert all(secret not in p.detail for p in problems_of(data))


def test_the_limits_on_bytes_rows_and_columns_hold():
    rows = [[f"S{n}", "p"] for n in range(4)]
    limits = CsvLimits(max_rows=3, max_columns=2)

    assert len(parse(a_csv(*rows[:3]), limits=limits).requests) == 3
    assert found(a_csv(*rows), limits=limits) == [(5, "", "row-limit")]
    assert found(b"scene_id,prompt,c\nS1,p\n", limits=limits) == [(1, "", "csv-header")]
    assert found(a_csv(*rows), limits=CsvLimits(max_bytes=10)) == [(1, "", "csv-too-large")]


def test_a_file_may_have_64_mib_64_columns_and_10000_rows_and_no_more():
    mib_64 = 64 * 1024 * 1024
    wide = ["scene_id", "prompt", *(f"c{n}" for n in range(62))]
    long = a_csv(*([f"S{n}", "p"] for n in range(10_000)))

    check_size(mib_64, CsvLimits())
    with pytest.raises(BatchRejected):
        check_size(mib_64 + 1, CsvLimits())
    assert len(parse(a_csv(["S1", "p"], header=wide)).requests) == 1
    assert found(a_csv(["S1", "p"], header=[*wide, "c62"])) == [(1, "", "csv-header")]
    assert len(parse(long).requests) == 10_000
    assert found(long + b"X,p\n") == [(10_002, "", "row-limit")]


def test_the_columns_of_results_count_for_nothing_so_that_the_widest_file_can_be_dropped_again():
    wide = ["scene_id", "prompt", *(f"c{n}" for n in range(62)), *RESULT_COLUMNS]

    assert len(parse(a_csv(["S1", "p"], header=wide)).requests) == 1
    assert found(a_csv(["S1", "p"], header=[*wide, "c62"])) == [(1, "", "csv-header")]


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
        outcome = parse(data).requests
    except BatchRejected as error:
        outcome = [problem.code and problem.line >= 1 for problem in error.problems]
    assert outcome
    assert all(outcome)


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


PREDECESSORS = sorted(
    (Path(__file__).parents[2] / "assetgen_pipeline" / "data" / "samples").glob("predecessor-*.csv")
)


def test_the_predecessors_own_sheets_are_accepted():
    assert [len(parse(path.read_bytes()).requests) for path in PREDECESSORS] == [6, 3]
