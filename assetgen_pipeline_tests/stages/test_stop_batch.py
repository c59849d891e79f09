"""Stopping a batch: suspended by a pause, or cancelled wherever it is."""

import pytest

from assetgen_pipeline.domain.batch_file import CsvLimits
from assetgen_pipeline.domain.bucket_layout import BatchFolder, batch_id_for
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_files import rows_of
from assetgen_pipeline.stages.batch_status import read_status, write_status
from assetgen_pipeline.stages.stop_batch import (
    end_cancelled,
    find_drop,
    suspend_batch,
    take_from_inbox,
)
from assetgen_pipeline.stages.waiting_batches import read_waiting, wait_for
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, RUN_ID, a_csv
from assetgen_pipeline_tests.read_results import read_results
from assetgen_pipeline_tests.stage_bench import Bench, some_requests

CSV = a_csv(["S1", "a kitchen"], ["S2", "a harbour"])
FOLDER = BatchFolder(BATCH_ID)
LIMITS = CsvLimits()


def dropped(bench, name="inbox/studio/spring.csv", data=CSV):
    info = bench.store.write(name, data, content_type="text/csv")
    return batch_id_for(
        owner="studio",
        stem="spring",
        bucket=BUCKET,
        name=name,
        generation=info.generation,
    )


async def test_a_suspended_batch_keeps_its_images_and_waits_without_money():
    bench = Bench()
    batch = bench.open(*some_requests(3))
    await bench.shard_of(batch, count=1)
    write_status(BATCH_ID, BatchState.RUNNING, store=bench.store, clock=bench.clock)
    assert len(bench.ledger.open_holds()) == 1

    suspend_batch(BATCH_ID, "pause", provider="local", services=bench.services)

    status = read_status(BATCH_ID, store=bench.store)
    assert (status.state, status.reserved_usd) == (BatchState.RUNNING, "0.000000")
    assert (status.images.delivered, status.spent_usd) == (1, "0.002000")
    assert bench.ledger.open_holds() == []
    waiting = read_waiting(BATCH_ID, store=bench.store)
    assert (waiting.cause, waiting.provider) == ("pause", "local")


def test_a_batch_whose_file_nobody_has_read_can_be_suspended_too():
    bench = Bench()
    write_status(BATCH_ID, BatchState.VALIDATING, store=bench.store, clock=bench.clock)

    suspend_batch(BATCH_ID, "pause", provider="", services=bench.services)

    assert read_status(BATCH_ID, store=bench.store).state is BatchState.VALIDATING


async def test_a_cancelled_batch_lists_what_is_done_and_what_was_not_attempted():
    bench = Bench()
    batch = bench.open(*some_requests(3))
    await bench.shard_of(batch, count=1)
    wait_for("pause", BATCH_ID, store=bench.store, clock=bench.clock)

    status = end_cancelled(BATCH_ID, run_id=RUN_ID, limits=LIMITS, services=bench.services)

    assert status.state is BatchState.CANCELLED
    assert [(row["status"], row["error_code"]) for row in read_results(bench.store)] == [
        ("delivered", ""),
        ("not_attempted", "cancelled"),
        ("not_attempted", "cancelled"),
    ]
    assert bench.ledger.open_holds() == []
    assert read_waiting(BATCH_ID, store=bench.store) is None


def test_cancelling_twice_changes_nothing():
    bench = Bench()
    bench.open(*some_requests(1))
    first = end_cancelled(BATCH_ID, run_id=RUN_ID, limits=LIMITS, services=bench.services)

    again = end_cancelled(BATCH_ID, run_id=RUN_ID, limits=LIMITS, services=bench.services)

    assert again == first


def test_a_drop_is_found_by_the_id_that_it_will_have_and_no_other_is():
    bench = Bench()
    dropped(bench, "inbox/studio/notes.txt")
    dropped(bench, "inbox/studio/summer.csv")
    batch_id = dropped(bench, "inbox/studio/dry-run/spring.csv")

    found = find_drop(batch_id, store=bench.store)

    assert (found.name, found.dry_run) == ("inbox/studio/dry-run/spring.csv", True)
    assert find_drop("studio.spring.00000000", store=bench.store) is None


@pytest.mark.parametrize(
    ("name", "mode"),
    [("inbox/studio/spring.csv", "normal"), ("inbox/studio/dry-run/spring.csv", "dry_run")],
)
def test_a_drop_that_is_cancelled_leaves_the_inbox_and_lists_every_row(name, mode):
    bench = Bench()
    batch_id = dropped(bench, name)

    take_from_inbox(batch_id, find_drop(batch_id, store=bench.store), services=bench.services)
    status = end_cancelled(batch_id, run_id="", limits=LIMITS, services=bench.services)

    assert bench.names("inbox/") == []
    assert bench.store.read(BatchFolder(batch_id).request) == CSV
    assert (status.state, status.mode, status.rows) == (BatchState.CANCELLED, mode, 2)
    assert {row["status"] for row in read_results(bench.store, batch_id)} == {"not_attempted"}


def test_a_drop_that_a_run_claims_first_stays_the_runs():
    bench = Bench()
    batch_id = dropped(bench)
    drop = find_drop(batch_id, store=bench.store)
    folder = BatchFolder(batch_id)
    bench.store.create(
        folder.request, CSV, content_type="text/csv", metadata={"claimed_by": RUN_ID}
    )

    take_from_inbox(batch_id, drop, services=bench.services)

    assert bench.store.stat(folder.request).metadata["claimed_by"] == RUN_ID
    assert bench.store.stat(folder.status) is None


def test_a_drop_that_is_replaced_meanwhile_is_left_alone():
    bench = Bench()
    batch_id = dropped(bench)
    drop = find_drop(batch_id, store=bench.store)
    dropped(bench)

    take_from_inbox(batch_id, drop, services=bench.services)

    assert bench.names() == ["inbox/studio/spring.csv"]


def test_the_rows_of_a_batch_are_read_where_no_run_has_and_kept():
    bench = Bench()
    bench.store.write(FOLDER.request, CSV, content_type="text/csv")

    batch = rows_of(BATCH_ID, limits=LIMITS, store=bench.store)
    bench.store.delete(FOLDER.request)

    assert [request.scene_id for request in batch.requests] == ["S1", "S2"]
    assert rows_of(BATCH_ID, limits=LIMITS, store=bench.store) == batch


@pytest.mark.parametrize("data", [None, b"scene_id,prompt\nS1,\n"])
def test_a_batch_without_a_valid_file_has_no_rows_and_is_cancelled_all_the_same(data):
    bench = Bench()
    if data is not None:
        bench.store.write(FOLDER.request, data, content_type="text/csv")

    status = end_cancelled(BATCH_ID, run_id="", limits=LIMITS, services=bench.services)

    assert rows_of(BATCH_ID, limits=LIMITS, store=bench.store) is None
    assert status.state is BatchState.CANCELLED
