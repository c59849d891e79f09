"""`status.json`."""

import json
from datetime import timedelta

import pytest
from pydantic import ValidationError

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import (
    BatchNotFound,
    ObjectChanged,
    OwnerInvalid,
    StatusUnreadable,
    StorageUnavailable,
)
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_status import (
    progress_of,
    read_status,
    touch_status,
    write_status,
)
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, NOW, OWNER, RUN_ID
from assetgen_pipeline_tests.stage_bench import Bench, some_requests

FOLDER = BatchFolder(BATCH_ID)


def write(bench, state=BatchState.RUNNING, **changes):
    return write_status(BATCH_ID, state, store=bench.store, clock=bench.clock, **changes)


def test_a_batch_without_a_status_is_not_found():
    with pytest.raises(BatchNotFound, match=BATCH_ID):
        read_status(BATCH_ID, store=Bench().store)


def test_the_first_status_says_whose_batch_it_is_and_where_its_results_will_be():
    bench = Bench()

    status = write(bench, BatchState.RECEIVED)

    assert (status.batch_id, status.owner, status.mode) == (BATCH_ID, OWNER, "normal")
    assert status.outbox == f"gs://{BUCKET}/{FOLDER.prefix}"
    assert status.started_at == status.updated_at == NOW.isoformat()
    assert status.finished_at is None


def test_what_was_written_is_read_back():
    bench = Bench()

    written = write(bench, run_id=RUN_ID, mode="dry_run", rows=3)

    assert read_status(BATCH_ID, store=bench.store) == written


def test_a_later_write_changes_what_it_names_and_keeps_the_rest():
    bench = Bench()
    write(bench, BatchState.VALIDATING, rows=3, run_id=RUN_ID, mode="dry_run")
    bench.clock.advance(timedelta(seconds=9))

    status = write(bench, BatchState.RESERVED, reserved_usd="0.006000")

    assert status.state is BatchState.RESERVED
    assert (status.rows, status.run_id, status.mode) == (3, RUN_ID, "dry_run")
    assert status.reserved_usd == "0.006000"
    assert status.started_at == NOW.isoformat()
    assert status.updated_at == (NOW + timedelta(seconds=9)).isoformat()


def test_a_field_can_be_emptied_again():
    bench = Bench()
    write(bench, BatchState.FAILED, problem={"code": "internal"}, finished_at=NOW.isoformat())

    status = write(bench, BatchState.VALIDATING, problem=None, finished_at=None)

    assert (status.problem, status.finished_at) == (None, None)


def test_a_batch_that_goes_on_has_no_problem_in_its_folder_either():
    bench = Bench()
    bench.store.write(FOLDER.problem, b"{}", content_type="application/problem+json")

    write(bench, BatchState.RUNNING, reserved_usd="0.000000")
    kept = bench.store.stat(FOLDER.problem)
    write(bench, BatchState.VALIDATING, problem=None)

    assert kept is not None
    assert bench.store.stat(FOLDER.problem) is None


@pytest.mark.parametrize("changes", [{"reserved_usd": "$6"}, {"colour": "red"}])
def test_a_field_that_the_document_does_not_have_or_allow_is_not_written(changes):
    bench = Bench()

    with pytest.raises(ValidationError):
        write(bench, **changes)

    assert bench.names() == []


def test_a_name_that_is_no_batch_id_has_no_status():
    bench = Bench()

    with pytest.raises(OwnerInvalid):
        write_status("../../etc", BatchState.RUNNING, store=bench.store, clock=bench.clock)


def test_a_bucket_that_cannot_be_reached_never_looks_like_a_new_batch():
    bench = Bench()
    write(bench, BatchState.COMPLETED, rows=3)
    bench.store.fail_next("read")

    with pytest.raises(StorageUnavailable):
        write(bench, BatchState.RUNNING)

    assert read_status(BATCH_ID, store=bench.store).state is BatchState.COMPLETED


def test_the_document_has_the_fields_of_the_contract_in_their_order():
    bench = Bench()
    write(bench)

    document = json.loads(bench.store.read(FOLDER.status))

    assert list(document) == [
        "batch_id",
        "owner",
        "state",
        "mode",
        "rows",
        "images",
        "estimate_usd",
        "reserved_usd",
        "spent_usd",
        "started_at",
        "updated_at",
        "finished_at",
        "run_id",
        "outbox",
        "problem",
    ]
    assert list(document["images"]) == [
        "requested",
        "delivered",
        "failed",
        "blocked",
        "not_attempted",
    ]
    assert bench.store.stat(FOLDER.status).content_type == "application/json"


async def test_an_outcome_gives_rows_images_and_money():
    bench = Bench()
    failed = ProviderError("no", kind=ErrorKind.INVALID_REQUEST)
    batch = bench.open(*some_requests(2, variants=2))
    await bench.generate(batch, ScriptedProvider({"S2/2": [failed]}))

    fields = progress_of(bench.outcome())

    assert fields == {
        "rows": 2,
        "images": {
            "requested": 4,
            "delivered": 3,
            "failed": 1,
            "blocked": 0,
            "not_attempted": 0,
        },
        "spent_usd": "0.006000",
    }


@pytest.mark.parametrize("damage", [b"{garbage", b"", b"{}"])
def test_a_damaged_status_is_replaced_by_whoever_writes_next(damage):
    bench = Bench()
    write(bench)
    bench.store.write(BatchFolder(BATCH_ID).status, damage, content_type="application/json")

    with pytest.raises(StatusUnreadable, match="damaged"):
        read_status(BATCH_ID, store=bench.store)
    write(bench, BatchState.FAILED)

    assert read_status(BATCH_ID, store=bench.store).state is BatchState.FAILED


def test_the_status_of_another_batch_is_no_status_of_this_one():
    bench = Bench()
    write(bench)
    other = BatchFolder("studio.other.00000009").status
    stolen = bench.store.read(BatchFolder(BATCH_ID).status)
    bench.store.write(other, stolen, content_type="application/json")

    with pytest.raises(StatusUnreadable, match="another batch"):
        read_status("studio.other.00000009", store=bench.store)


def test_a_status_damaged_between_two_looks_is_not_touched():
    bench = Bench()
    write(bench)
    name = BatchFolder(BATCH_ID).status
    damaged = bench.store.write(name, b"{", content_type="application/json")

    with pytest.raises(ObjectChanged):
        touch_status(BATCH_ID, generation=damaged.generation, store=bench.store, clock=bench.clock)
