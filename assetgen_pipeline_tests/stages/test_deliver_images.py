"""The files that people open."""

import json

import pytest

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.stages.deliver_images import deliver_images
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID
from assetgen_pipeline_tests.stage_bench import Bench, some_requests

FOLDER = BatchFolder(BATCH_ID)


async def a_half_done_bench():
    """S1 is delivered, S2 failed."""
    bench = Bench()
    batch = bench.open(*some_requests(2))
    failure = ProviderError("no image", kind=ErrorKind.INVALID_REQUEST)
    await bench.generate(batch, ScriptedProvider({"S2/1": [failure]}))
    return bench


def text(bench, name):
    return bench.store.read(name).decode()


async def test_manifest_failed_rows_and_contact_sheet_are_written_with_their_types():
    bench = await a_half_done_bench()

    names = deliver_images(bench.outcome(), services=bench.services)

    assert names == [FOLDER.manifest, FOLDER.failed, FOLDER.contact_sheet]
    assert [bench.store.stat(name).content_type for name in names] == [
        "application/json",
        "text/csv; charset=utf-8",
        "text/html; charset=utf-8",
    ]


async def test_the_manifest_has_every_row_and_names_the_bucket():
    bench = await a_half_done_bench()

    deliver_images(bench.outcome(), services=bench.services)

    rows = json.loads(text(bench, FOLDER.manifest))["rows"]
    assert [row["status"] for row in rows] == ["delivered", "failed"]
    assert rows[0]["images"][0]["image_uri"].startswith(f"gs://{bench.store.bucket}/images/")
    assert rows[1]["error"] == "no image"


async def test_the_failed_rows_can_be_dropped_again():
    bench = await a_half_done_bench()

    deliver_images(bench.outcome(), services=bench.services)

    assert text(bench, FOLDER.failed).splitlines() == ["scene_id,prompt", "S2,scene 2"]


async def test_the_contact_sheet_embeds_each_thumbnail():
    bench = await a_half_done_bench()

    deliver_images(bench.outcome(), services=bench.services)

    sheet = text(bench, FOLDER.contact_sheet)
    assert sheet.count("data:image/") == 1
    assert "scene 1" in sheet
    assert "scene 2" in sheet
    assert "01 Mar 2026, 12:00 UTC" in sheet


async def test_a_thumbnail_that_was_purged_leaves_a_gap_and_no_failure():
    bench = await a_half_done_bench()
    for name in [*bench.names("thumbnails/"), *bench.names("images/")]:
        bench.store.delete(name)

    deliver_images(bench.outcome(), services=bench.services)

    sheet = text(bench, FOLDER.contact_sheet)
    assert "data:image/" not in sheet
    assert "scene 1" in sheet


async def test_delivering_again_replaces_each_file_whole():
    bench = await a_half_done_bench()
    deliver_images(bench.outcome(), services=bench.services)
    before = {name: bench.store.stat(name) for name in bench.names(FOLDER.prefix)}

    deliver_images(bench.outcome(), services=bench.services)

    assert bench.names(FOLDER.prefix) == list(before)
    for name in (FOLDER.manifest, FOLDER.failed, FOLDER.contact_sheet):
        assert bench.store.stat(name).generation > before[name].generation


async def test_a_bucket_that_cannot_be_reached_is_not_hidden_by_the_sheet():
    bench = await a_half_done_bench()
    outcome = bench.outcome()
    bench.store.fail_next("read")

    with pytest.raises(StorageUnavailable):
        deliver_images(outcome, services=bench.services)


async def test_a_batch_of_more_than_a_thousand_images_has_a_sheet_of_several_files():
    bench = Bench()
    await bench.generate(bench.open(*some_requests(335, variants=3)))

    names = deliver_images(bench.outcome(), services=bench.services)

    pages = [FOLDER.contact_sheet, f"{FOLDER.prefix}contact-sheet-2.html"]
    assert names[2:] == pages
    assert [text(bench, name).count("data:image/") for name in pages] == [999, 6]
