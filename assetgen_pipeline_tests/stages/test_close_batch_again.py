"""Closing what has ended before, or could not be closed."""

from dataclasses import replace
from datetime import timedelta

import pytest

from assetgen_pipeline.domain.errors import BatchCancelled, LedgerUnavailable, StorageUnavailable
from assetgen_pipeline.domain.money import ZERO
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_status import read_status, write_status
from assetgen_pipeline.stages.close_batch import fail_without_ledger, finish_batch, settle_batch
from assetgen_pipeline_tests.builders import BATCH_ID, OWNER, RUN_ID, a_csv
from assetgen_pipeline_tests.closed_batches import (
    FOLDER,
    RESULT_FILES,
    abandon,
    close,
    column,
    result_files,
)
from assetgen_pipeline_tests.stage_bench import Bench, some_requests


async def test_closing_again_changes_nothing():
    bench = Bench()
    batch = bench.open(*some_requests(4))
    await abandon(bench, batch, done=2)
    first = close(bench)
    before = {name: bench.store.stat(name) for name in bench.names()}
    books = bench.attempts(), bench.ledger.day(OWNER)
    bench.clock.advance(timedelta(hours=1))

    again = close(bench, BatchCancelled("too late"))

    assert again == first
    assert {name: bench.store.stat(name) for name in bench.names()} == before
    assert (bench.attempts(), bench.ledger.day(OWNER)) == books


async def test_a_completed_batch_stays_completed_when_its_run_is_closed_late():
    bench = Bench()
    batch = bench.open()
    write_status(BATCH_ID, BatchState.RUNNING, store=bench.store, clock=bench.clock, run_id=RUN_ID)
    await bench.generate(batch)
    settle_batch(BATCH_ID, services=bench.services)
    finish_batch(bench.outcome(), services=bench.services)

    status = close(bench)

    assert status.state is BatchState.COMPLETED
    assert FOLDER.problem not in bench.names()


async def test_a_retry_that_dies_is_closed_although_the_batch_had_ended_before():
    bench = Bench()
    batch = bench.open(*some_requests(2))
    await abandon(bench, batch, done=0)
    close(bench)
    bench.reserve(batch, run_id="run-2")

    status = close(bench, BatchCancelled("stop"), run_id="run-2")

    assert (status.state, status.run_id) == (BatchState.CANCELLED, "run-2")
    assert bench.ledger.day(OWNER).held == ZERO
    assert column(bench, "error_code") == ["internal", "cancelled"]


async def test_a_close_that_met_a_broken_bucket_is_finished_by_the_next():
    bench = Bench()
    batch = bench.open(*some_requests(2))
    await abandon(bench, batch, done=1)
    bench.store.fail_next("write")
    with pytest.raises(StorageUnavailable):
        close(bench)

    status = close(bench)

    assert status.state is BatchState.FAILED
    assert result_files(bench) == RESULT_FILES
    assert bench.ledger.day(OWNER).held == ZERO


@pytest.mark.parametrize("verb", ["read", "write", "list"])
async def test_no_outage_of_the_bucket_makes_a_batch_look_closed(verb):
    bench = Bench()
    batch = bench.open(*some_requests(2))
    await abandon(bench, batch, done=1)
    write_status(BATCH_ID, BatchState.RUNNING, store=bench.store, clock=bench.clock)
    bench.store.fail_next(verb)

    with pytest.raises(StorageUnavailable):
        close(bench)

    assert read_status(BATCH_ID, store=bench.store).state is BatchState.RUNNING


async def test_a_batch_whose_books_are_away_says_so_and_gets_its_results_once_they_are_back():
    bench = Bench()
    batch = bench.open(*some_requests(2))
    await abandon(bench, batch, done=1)
    write_status(
        BATCH_ID, BatchState.RUNNING, store=bench.store, clock=bench.clock, reserved_usd="0.004000"
    )

    failed = fail_without_ledger(BATCH_ID, LedgerUnavailable("away"), services=bench.services)

    assert (failed.state, failed.problem["code"]) == (BatchState.FAILED, "ledger-unavailable")
    assert failed.reserved_usd == "0.004000"
    assert bench.store.stat(FOLDER.results) is None

    close(bench)

    assert column(bench, "status") == ["delivered", "failed"]
    assert bench.services.ledger.open_holds() == []


AWAY = LedgerUnavailable("away")


def test_without_books_a_batch_that_never_held_money_lists_its_rows():
    bench = Bench()
    bench.store.write(FOLDER.request, a_csv(["S1", "a kitchen"]), content_type="text/csv")
    write_status(BATCH_ID, BatchState.RECEIVED, store=bench.store, clock=bench.clock)

    failed = fail_without_ledger(BATCH_ID, AWAY, services=replace(bench.services, ledger=None))

    assert (failed.state, failed.finished_at) == (BatchState.FAILED, bench.clock.now().isoformat())
    assert (failed.rows, failed.images.not_attempted) == (1, 1)
    assert result_files(bench) == RESULT_FILES
    assert column(bench, "status") == ["not_attempted"]
    assert column(bench, "error_code") == ["ledger-unavailable"]


async def test_without_books_the_results_of_an_earlier_run_stay():
    bench = Bench()
    batch = bench.open(*some_requests(2))
    bench.keep(batch, "budget_hold", batch)
    await abandon(bench, batch, done=1)
    close(bench)
    before = bench.store.stat(FOLDER.results)
    # Whoever writes next replaces a damaged status, which then knows of no money.
    bench.store.write(FOLDER.status, b"{", content_type="application/json")

    failed = fail_without_ledger(BATCH_ID, AWAY, services=replace(bench.services, ledger=None))

    assert failed.state is BatchState.FAILED
    assert bench.store.stat(FOLDER.results) == before
    assert column(bench, "status") == ["delivered", "failed"]
