"""Closing a batch whose run died or was cancelled, however far it had come."""

import json
from datetime import timedelta

import pytest

from assetgen_pipeline.domain.batch_file import CsvLimits
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.delivery import RefreshCause
from assetgen_pipeline.domain.errors import (
    BatchCancelled,
    BatchRejected,
    FileProblem,
    LedgerUnavailable,
)
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.stages.close_batch import close_batch
from assetgen_pipeline.stages.expiry_index import indexed_until
from assetgen_pipeline.stages.refresh_published import refresh_batch
from assetgen_pipeline.stages.waiting_batches import read_waiting, wait_for
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, OWNER, RUN_ID, a_csv
from assetgen_pipeline_tests.closed_batches import (
    FOLDER,
    RESULT_FILES,
    Died,
    abandon,
    close,
    column,
    result_files,
)
from assetgen_pipeline_tests.stage_bench import ONE_IMAGE, Bench, some_requests


def test_a_batch_that_died_before_its_file_was_read_has_a_status_and_a_problem():
    bench = Bench()

    status = close(bench)

    assert status.state is BatchState.FAILED
    assert (status.owner, status.run_id, status.reserved_usd) == (OWNER, RUN_ID, "0.000000")
    assert status.finished_at == bench.clock.now().isoformat()
    assert bench.names() == [FOLDER.problem, FOLDER.status]


def test_a_batch_that_ended_before_its_file_was_read_lists_every_row_with_the_reason():
    bench = Bench()
    rows = [["S1", "a kitchen", 2], ["S2", "a harbour", 1]]
    data = a_csv(*rows, header=["scene_id", "prompt", "variants"])
    bench.store.write(FOLDER.request, data, content_type="text/csv")

    status = close(bench, BatchCancelled("stopped by its operator"))

    assert result_files(bench) == RESULT_FILES
    assert column(bench, "status") == ["not_attempted"] * 2
    assert column(bench, "error_code") == ["cancelled"] * 2
    assert len(bench.store.read(FOLDER.failed).splitlines()) == 3
    assert (status.rows, status.images.not_attempted, status.spent_usd) == (2, 3, "0.000000")


def test_its_rows_are_read_within_the_limits_of_the_deployment():
    bench = Bench(csv_limits=CsvLimits(max_rows=1))
    data = a_csv(["S1", "a kitchen"], ["S2", "a harbour"])
    bench.store.write(FOLDER.request, data, content_type="text/csv")

    assert close(bench).state is BatchState.FAILED
    assert result_files(bench) == set()


async def test_what_nothing_can_sign_has_results_without_links_that_are_due_to_be_signed():
    bench = Bench()
    batch = bench.open(*some_requests(2))
    await abandon(bench, batch, done=1)
    bench.signer.fail_next()

    status = close(bench)

    assert (status.state, read_status(BATCH_ID, store=bench.store)) == (BatchState.FAILED, status)
    assert result_files(bench) == RESULT_FILES
    assert column(bench, "status") == ["delivered", "failed"]
    assert column(bench, "image_url_1") == ["", ""]
    assert column(bench, "image_uri_1")[0].startswith("gs://")
    bench.clock.advance(timedelta(seconds=1))
    due = list(indexed_until(bench.clock.now(), store=bench.store))
    refreshed = refresh_batch(BATCH_ID, due, cause=RefreshCause.EXPIRING, services=bench.services)
    assert refreshed.result == "refreshed"
    assert column(bench, "image_url_1")[0].startswith("https://")


def test_a_problem_says_nothing_of_an_error_that_is_not_ours():
    bench = Bench()

    status = close(bench)

    problem = bench.store.read(FOLDER.problem)
    assert json.loads(problem) == status.problem
    assert status.problem["code"] == "internal"
    assert b"hunter2" not in problem
    assert bench.store.stat(FOLDER.problem).content_type == "application/problem+json"


def test_a_batch_that_died_between_file_and_hold_lists_every_row_with_the_reason():
    bench = Bench()
    bench.open(*some_requests(3))

    status = close(bench)

    assert result_files(bench) == RESULT_FILES
    assert column(bench, "scene_id") == ["S1", "S2", "S3"]
    assert column(bench, "status") == ["not_attempted"] * 3
    assert column(bench, "error_code") == ["internal"] * 3
    assert column(bench, "error") == ["Internal error"] * 3
    assert (status.rows, status.images.not_attempted) == (3, 3)


def test_a_batch_that_died_after_its_hold_gives_the_money_back():
    bench = Bench()
    batch = bench.open(*some_requests(3))
    bench.reserve(batch)

    close(bench)

    day = bench.ledger.day(OWNER)
    assert (day.held, day.settled) == (ZERO, ZERO)
    assert bench.ledger.open_hold(BATCH_ID) is None
    assert column(bench, "status") == ["not_attempted"] * 3


async def test_a_batch_that_died_mid_generation_keeps_its_images_and_assumes_the_one_in_flight():
    bench = Bench()
    batch = bench.open(*some_requests(4))
    await abandon(bench, batch, done=2)

    status = close(bench)

    assert column(bench, "status") == ["delivered", "delivered", "failed", "not_attempted"]
    assert column(bench, "error_code") == ["", "", "internal", "internal"]
    assert bench.attempts()[-1].state is AttemptState.ASSUMED
    assert bench.ledger.day(OWNER).held == ZERO
    assert bench.ledger.day(OWNER).settled == ONE_IMAGE * 3
    assert status.spent_usd == "0.006000"
    assert bench.broken() == []


async def test_an_image_uploaded_before_the_crash_is_delivered_at_its_exact_cost():
    bench = Bench()
    batch = bench.open(*some_requests(2))
    await abandon(bench, batch, done=1)
    lost = bench.attempts()[-1]
    bench.store.create(
        f"images/{OWNER}/{lost.image_id[:2]}/{lost.image_id}.png",
        b"the bytes",
        content_type="image/png",
        metadata={
            "attempt_id": lost.attempt_id,
            "cost_micros": "1234",
            "cost_basis": "usage",
            "latency_ms": "7",
        },
    )

    status = close(bench)

    assert column(bench, "status") == ["delivered", "delivered"]
    assert status.spent_usd == "0.003234"
    assert bench.ledger.day(OWNER).settled == Money(3_234)


async def test_a_cancelled_batch_keeps_what_was_delivered_and_says_why_it_stopped():
    bench = Bench()
    batch = bench.open(*some_requests(3))
    provider = ScriptedProvider()
    await bench.generate(
        batch,
        provider,
        concurrency=1,
        should_stop=lambda: "cancelled" if provider.requests else "",
    )

    status = close(bench, BatchCancelled("stopped by its operator"))

    assert status.state is BatchState.CANCELLED
    assert column(bench, "status") == ["delivered", "not_attempted", "not_attempted"]
    assert column(bench, "error_code") == ["", "cancelled", "cancelled"]
    assert bench.ledger.day(OWNER).held == ZERO
    assert len(bench.store.read(FOLDER.failed).splitlines()) == 3


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (
            BatchRejected([FileProblem(2, "prompt", "row-invalid", "it is empty")]),
            BatchState.REJECTED,
            "row-invalid",
        ),
        (BatchCancelled("stop"), BatchState.CANCELLED, "cancelled"),
        (LedgerUnavailable("gone"), BatchState.FAILED, "ledger-unavailable"),
        (Died(), BatchState.FAILED, "internal"),
    ],
)
def test_the_final_state_is_what_the_error_means(error, state, code):
    bench = Bench()

    status = close(bench, error)

    assert (status.state, status.problem["code"]) == (state, code)
    assert read_status(BATCH_ID, store=bench.store) == status


@pytest.mark.parametrize(
    ("cause", "keep_request", "stays"),
    [("run", True, True), ("run", False, False), ("pause", True, False)],
)
def test_a_closed_batch_waits_for_nothing_but_a_run_that_was_asked_for(cause, keep_request, stays):
    bench = Bench()
    bench.open(*some_requests(1))
    wait_for(cause, BATCH_ID, store=bench.store, clock=bench.clock)

    close_batch(BATCH_ID, Died(), run_id=RUN_ID, services=bench.services, keep_request=keep_request)

    assert (read_waiting(BATCH_ID, store=bench.store) is not None) is stays
