import csv
import io
import json

from assetgen_pipeline.domain.batch_file import CsvLimits, parse_batch_file
from assetgen_pipeline.domain.csv_cells import unescape_cell
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.outcome import batch_outcome
from assetgen_pipeline.domain.result_columns import RESULT_COLUMNS
from assetgen_pipeline.domain.result_files import (
    SignedLink,
    failed_csv,
    manifest,
    manifest_json,
    results_csv,
    template_csv,
)
from assetgen_pipeline_tests.builders import (
    BATCH_ID,
    BUCKET,
    OWNER,
    a_batch,
    a_decision,
    a_failed_attempt,
    a_stored_image,
    an_attempt,
    an_image_request,
    row_references,
)

FIRST, SECOND = a_stored_image("aa" * 20), a_stored_image("bb" * 20)
LINKS = {
    FIRST.object_name: SignedLink("https://signed/1?X-Goog-Signature=s", "2026-03-08T12:00:00Z"),
    FIRST.thumbnail_name: SignedLink("https://signed/t1", "2026-03-07T12:00:00+00:00"),
    SECOND.object_name: SignedLink("https://signed/2", "2026-03-09T12:00:00Z"),
}


def an_outcome(*, header=("scene_id", "prompt")):
    """One row delivered in part, one blocked with a formula for a prompt, one not attempted."""
    batch = a_batch(
        an_image_request("S1", variants=3, cells=("S1", "a kitchen")),
        an_image_request("S2", row_number=2, prompt="=1+1", cells=("S2", "=1+1")),
        an_image_request("S3", row_number=3, cells=("S3", "c")),
        an_image_request("S4", row_number=4, cells=("S4", "d")),
        header=header,
    )
    decision = a_decision(
        row_references("S1", unfetched=("https://h/…#1: reference-unavailable: x", "second")),
        row_references("S3", warning="reference pack P does not exist"),
    )
    attempts = [
        an_attempt("S1", 1, image=FIRST),
        an_attempt("S1", 2, image=SECOND),
        a_failed_attempt("S1", 3, cost=Money(500), cost_basis="flat"),
        a_failed_attempt("S2", code="provider-blocked", detail="+refused"),
        an_attempt("S4", image=SECOND),
    ]
    return batch_outcome(batch, decision, attempts)


def table(data):
    rows = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def parse(data):
    return parse_batch_file(data, limits=CsvLimits(), own_bucket=BUCKET, owner=OWNER)


def test_every_input_row_has_one_row_of_results_in_its_place():
    rows = table(results_csv(an_outcome(), LINKS, bucket=BUCKET))

    assert [row["scene_id"] for row in rows] == ["S1", "S2", "S3", "S4"]
    assert [row["status"] for row in rows] == ["partial", "blocked", "not_attempted", "delivered"]
    assert list(rows[0]) == ["scene_id", "prompt", *RESULT_COLUMNS]


def test_a_row_with_images_names_links_and_links_only_where_they_are():
    row = table(results_csv(an_outcome(), LINKS, bucket=BUCKET))[0]

    assert row["images_delivered"] == "2"
    assert row["image_uri_1"] == f"gs://{BUCKET}/{FIRST.object_name}"
    assert (row["image_uri_3"], row["image_url_3"], row["thumbnail_url_3"]) == ("", "", "")
    assert row["image_url_1"] == "https://signed/1?X-Goog-Signature=s"
    assert row["thumbnail_url_1"] == "https://signed/t1"
    assert row["thumbnail_url_2"] == ""
    assert row["urls_expire_at"] == "2026-03-07T12:00:00+00:00"
    assert row["references_unfetched"] == "https://h/…#1: reference-unavailable: x; second"
    assert (row["cost_usd"], row["attempts"]) == ("0.004500", "3")
    assert (row["error_code"], row["error"]) == ("provider-rejected", "no image came back")


def test_a_row_without_images_says_why_and_a_warning_has_no_code():
    rows = table(results_csv(an_outcome(), {}, bucket=BUCKET))

    assert (rows[1]["error_code"], rows[1]["error"]) == ("provider-blocked", "'+refused")
    assert rows[1]["urls_expire_at"] == ""
    assert (rows[2]["error_code"], rows[2]["error"]) == ("", "reference pack P does not exist")
    assert (rows[3]["error_code"], rows[3]["error"]) == ("", "")
    assert rows[3]["image_uri_1"] != ""
    assert rows[3]["image_url_1"] == ""


def test_a_formula_in_the_input_is_escaped_and_comes_back_as_it_was():
    data = results_csv(an_outcome(), LINKS, bucket=BUCKET)

    assert table(data)[1]["prompt"] == "'=1+1"
    assert parse(data).requests[1].prompt == "=1+1"


def test_an_input_column_named_like_a_result_is_replaced():
    outcome = an_outcome(header=("scene_id", " Status "))

    (row, *_) = table(results_csv(outcome, LINKS, bucket=BUCKET))

    assert list(row) == ["scene_id", *RESULT_COLUMNS]
    assert manifest(outcome, bucket=BUCKET)["columns"] == ["scene_id"]


def test_results_of_dropped_results_have_the_same_columns():
    first = results_csv(an_outcome(), LINKS, bucket=BUCKET)
    parsed = parse(first)

    again = batch_outcome(a_batch(*parsed.requests, header=parsed.header), None, [])

    assert results_csv(again, {}, bucket=BUCKET).split(b"\n")[0] == first.split(b"\n")[0]
    assert "X-Goog-Signature" not in manifest_json(again, bucket=BUCKET).decode()


def test_the_failed_file_holds_the_input_of_what_is_not_wholly_delivered():
    data = failed_csv(an_outcome())

    assert data == b"scene_id,prompt\nS1,a kitchen\nS2,'=1+1\nS3,c\n"
    assert [request.scene_id for request in parse(data).requests] == ["S1", "S2", "S3"]


def test_the_manifest_is_lossless_and_holds_no_signed_url():
    outcome = an_outcome()

    document = json.loads(manifest_json(outcome, bucket=BUCKET))

    assert document == json.loads(json.dumps(manifest(outcome, bucket=BUCKET)))
    assert (document["batch_id"], document["owner"]) == (BATCH_ID, OWNER)
    assert document["images"]["requested"] == 6
    assert document["spent_usd"] == outcome.spent().usd()
    first, second, *_ = document["rows"]
    assert second["cells"] == ["S2", "=1+1"]
    assert second["prompt"] == "=1+1"
    assert second["images"][0]["file"] is None
    assert second["images"][0]["image_uri"] is None
    image = first["images"][0]
    assert image["image_uri"] == f"gs://{BUCKET}/{FIRST.object_name}"
    assert image["file"]["sha256"] == FIRST.sha256
    assert image["cost_usd"] == "0.002000"
    assert first["references_unfetched"][1] == "second"
    assert "signed" not in json.dumps(document)


def test_the_template_is_a_valid_file_that_names_every_column():
    parsed = parse(template_csv())

    assert len(parsed.requests) == 2
    assert parsed.header == (
        "scene_id", "prompt", "variants", "reference_urls", "reference_mode", "ref_pack_id",
        "aspect_ratio",
    )  # fmt: skip
    assert all(unescape_cell(cell) == cell for request in parsed.requests for cell in request.cells)
