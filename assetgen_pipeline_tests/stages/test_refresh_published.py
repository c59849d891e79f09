"""Refreshing published batches: what is due, what is left alone, what lapses."""

import json
from datetime import timedelta

import pytest

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.delivery import RefreshCause, UrlPolicy
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_status import read_status, write_status
from assetgen_pipeline.stages.expiry_index import indexed_within
from assetgen_pipeline.stages.refresh_published import refresh_horizon, refresh_published
from assetgen_pipeline.stages.refresh_urls import read_links
from assetgen_pipeline.testing.signer import FakeSigner
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, NOW, OWNER
from assetgen_pipeline_tests.published_batches import (
    DAY,
    EXPIRING,
    FILES,
    FOLDER,
    HOUR,
    OPERATOR,
    a_published,
    generations,
    publish,
    refresh,
    rows,
)
from assetgen_pipeline_tests.stage_bench import Bench


async def test_links_that_end_soon_are_signed_anew_and_every_file_is_a_new_generation():
    bench = await a_published()
    before, [old] = generations(bench), rows(bench)
    bench.clock.advance(6.5 * DAY)

    refreshed = refresh(bench)

    after, [new] = generations(bench), rows(bench)
    assert refreshed.result == "refreshed"
    assert all(after[name] > before[name] for name in FILES)
    assert new["image_url_1"] != old["image_url_1"]
    assert new["urls_expire_at"] == refreshed.expires_at == (NOW + 13.5 * DAY).isoformat()
    assert refreshed.old_expires_at == old["urls_expire_at"]
    assert {**new, "image_url_1": "", "thumbnail_url_1": "", "urls_expire_at": ""} == {
        **old, "image_url_1": "", "thumbnail_url_1": "", "urls_expire_at": ""
    }  # fmt: skip
    status = read_status(BATCH_ID, store=bench.store)
    assert (status.state, status.updated_at) == (
        BatchState.COMPLETED,
        bench.clock.now().isoformat(),
    )
    assert bench.names("index/") == [f"index/expiry/2026-03-15T00/{BATCH_ID}"]


async def test_links_with_time_left_are_left_alone():
    bench = await a_published()
    before = generations(bench)
    bench.clock.advance(6 * DAY)

    refreshed = refresh(bench)

    assert (refreshed.result, generations(bench)) == ("fresh", before)
    assert len(bench.signer.signed) == 2


async def test_an_operators_refresh_always_signs_anew():
    bench = await a_published()
    bench.clock.advance(HOUR)

    refreshed = refresh(bench, cause=OPERATOR)

    assert refreshed.result == "refreshed"
    assert refreshed.expires_at == (NOW + 7 * DAY + HOUR).isoformat()


@pytest.mark.parametrize(
    ("passed", "result"),
    [(timedelta(hours=10, minutes=48), "fresh"), (timedelta(hours=10, minutes=49), "refreshed")],
)
async def test_links_signed_by_iam_are_due_before_their_twelve_hours_end(passed, result):
    bench = await a_published(signer=FakeSigner(bucket=BUCKET, max_ttl=12 * HOUR))
    bench.clock.advance(passed)

    assert refresh(bench).result == result


async def test_after_the_retention_the_results_say_that_their_links_lapsed():
    bench = await a_published(urls=UrlPolicy(refresh_retention=DAY))
    bench.clock.advance(7 * DAY - timedelta(seconds=1))
    assert refresh(bench).result == "fresh"
    assert rows(bench)[0]["image_url_1"]
    bench.clock.advance(timedelta(seconds=1))

    refreshed = refresh(bench)

    [row] = rows(bench)
    assert (refreshed.result, refreshed.cause) == ("lapsed", RefreshCause.LAPSED)
    assert row["image_url_1"] == row["thumbnail_url_1"] == ""
    assert row["urls_expire_at"] == (NOW + 7 * DAY).isoformat()
    assert "no longer kept fresh" in row["error"]
    assert f"`assetgen refresh-urls {BATCH_ID}` signs new ones" in row["error"]
    assert (row["status"], row["error_code"]) == ("delivered", "")
    assert row["image_uri_1"].startswith("gs://")
    links = json.loads(bench.store.read(FOLDER.manifest))["links"]
    assert (links["lapsed"], links["refreshes"][-1]["cause"]) == (True, "lapsed")
    assert bench.names("index/") == []


async def test_an_operator_brings_lapsed_links_back():
    bench = await a_published(urls=UrlPolicy(refresh_retention=DAY))
    bench.clock.advance(8 * DAY)
    refresh(bench)

    refreshed = refresh(bench, cause=OPERATOR)

    [row] = rows(bench)
    assert refreshed.result == "refreshed"
    assert (row["image_url_1"] != "", row["error"]) == (True, "")
    assert read_links(BATCH_ID, services=bench.services).lapsed is False
    bench.clock.advance(7 * DAY)
    assert refresh(bench).result == "lapsed"


@pytest.mark.parametrize(
    "state", [BatchState.RECEIVED, BatchState.RUNNING, BatchState.AWAITING_APPROVAL]
)
async def test_a_batch_that_a_run_works_on_is_left_to_that_run_and_stays_in_the_index(state):
    bench = await a_published()
    index = bench.names("index/")
    bench.clock.advance(7 * DAY)
    write_status(BATCH_ID, state, store=bench.store, clock=bench.clock)
    before = generations(bench)

    assert refresh(bench, cause=OPERATOR).result == "running"
    assert refresh(bench).result == "running"
    assert (generations(bench), bench.names("index/")) == (before, index)


async def test_a_look_at_fresh_links_reads_neither_books_nor_requests():
    bench = await a_published()
    bench.store.calls.clear()

    refresh(bench)

    assert {name for verb, name in bench.store.calls if verb == "read"} == {
        FOLDER.status,
        FOLDER.artifact("signed_urls"),
    }


async def test_many_batches_are_refreshed_and_one_that_fails_holds_up_no_other():
    bench = Bench()
    ids = [f"{OWNER}.b{number}.{number:08x}" for number in range(9)]
    for batch_id in ids:
        await publish(bench, batch_id)
    bench.clock.advance(6.5 * DAY)
    broken = BatchFolder(ids[4]).manifest
    write = bench.store.write

    def fails(name, data, **options):
        if name == broken:
            bench.store.fail_next("write")
        return write(name, data, **options)

    bench.store.write = fails

    refreshed = await refresh_published([*ids, ids[0]], cause=EXPIRING, services=bench.services)

    assert [one.batch_id for one in refreshed] == ids
    results = {one.batch_id: (one.result, one.code) for one in refreshed}
    assert results.pop(ids[4]) == ("failed", "storage-unavailable")
    assert set(results.values()) == {("refreshed", "")}
    due = indexed_within(refresh_horizon(bench.services.urls), bench.clock.now(), store=bench.store)
    assert list(due) == [ids[4]]
