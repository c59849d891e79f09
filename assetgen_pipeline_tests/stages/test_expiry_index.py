"""The index of links that end: what stands in it, what is removed, how far it is read."""

from datetime import timedelta

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.delivery import UrlPolicy
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_status import write_status
from assetgen_pipeline.stages.expiry_index import indexed_until, indexed_within
from assetgen_pipeline_tests.builders import BATCH_ID, NOW, OWNER
from assetgen_pipeline_tests.published_batches import (
    DAY,
    FOLDER,
    HOUR,
    OPERATOR,
    a_published,
    generations,
    refresh,
)
from assetgen_pipeline_tests.stage_bench import Bench


async def test_entries_left_over_are_removed_and_the_right_one_is_there_after():
    bench = await a_published()
    [entry] = bench.names("index/")
    left_over = FOLDER.expiry(NOW)
    bench.store.write(left_over, b"", content_type="text/plain")
    bench.store.delete(entry)

    assert refresh(bench).result == "fresh"

    assert bench.names("index/") == [entry]


async def test_an_entry_of_a_batch_that_is_gone_is_removed():
    bench = await a_published()
    for name in bench.names(FOLDER.prefix):
        bench.store.delete(name)
    bench.clock.advance(7 * DAY)

    assert refresh(bench).result == "gone"
    assert bench.names("index/") == []


async def test_a_batch_whose_artifacts_are_gone_is_not_asked_for_for_ever():
    bench = await a_published()
    bench.store.delete(FOLDER.artifact("batch_requests"))
    bench.clock.advance(7 * DAY)
    before = generations(bench)

    assert refresh(bench).result == "gone"
    assert (bench.names("index/"), generations(bench)) == ([], before)


async def test_a_batch_that_never_signed_anything_is_no_error():
    bench = Bench()
    write_status(BATCH_ID, BatchState.REJECTED, store=bench.store, clock=bench.clock)
    bench.store.write(FOLDER.expiry(NOW), b"", content_type="text/plain")

    assert refresh(bench, cause=OPERATOR).result == "gone"
    assert bench.names("index/") == []


async def test_the_index_is_read_no_further_than_the_hour_asked_for():
    bench = Bench()
    for number in range(5):
        batch_id = f"{OWNER}.b{number}.{number:08x}"
        name = BatchFolder(batch_id).expiry(NOW + number * HOUR)
        bench.store.write(name, b"", content_type="text/plain")
    for stray in ("0-notes.txt", "2026-03-01T0x/x.y.00000000"):
        bench.store.write(f"index/expiry/{stray}", b"", content_type="text/plain")

    found = [entry.batch_id for entry in indexed_until(NOW + 2 * HOUR, store=bench.store)]

    assert found == [f"{OWNER}.b{number}.{number:08x}" for number in range(3)]
    assert list(indexed_within(HOUR, NOW, store=bench.store)) == found[:2]


async def test_links_that_end_later_in_a_due_hour_are_not_due():
    bench = await a_published(urls=UrlPolicy(ttl=1.5 * HOUR))

    assert indexed_within(HOUR + timedelta(minutes=29), NOW, store=bench.store) == {}
    assert list(indexed_within(1.5 * HOUR, NOW, store=bench.store)) == [BATCH_ID]
