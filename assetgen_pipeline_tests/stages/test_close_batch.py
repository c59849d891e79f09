"""Closing a batch, however it ended."""

import asyncio
import csv
import io
import json
from datetime import timedelta

import pytest

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.errors import (
    BatchCancelled,
    BatchRejected,
    BudgetRefused,
    FileProblem,
    LedgerUnavailable,
    StorageUnavailable,
)
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_status import read_status, write_status
from assetgen_pipeline.stages.close_batch import (
    close_batch,
    end_with_problem,
    finish_batch,
    publish_results,
    refuse_batch,
    settle_batch,
)
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, OWNER, RUN_ID
from assetgen_pipeline_tests.stage_bench import ONE_IMAGE, Bench, some_requests

FOLDER = BatchFolder(BATCH_ID)
RESULT_FILES = {FOLDER.results, FOLDER.failed, FOLDER.manifest, FOLDER.contact_sheet}


class Died(Exception):
    """Something that is no error of ours, with a secret in its text."""


def close(bench, error=None, *, run_id=RUN_ID):
    return close_batch(
        BATCH_ID, error or Died("/srv/key=hunter2"), run_id=run_id, services=bench.services
    )


def results(bench):
    data = bench.store.read(FOLDER.results).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(data)))


def column(bench, name):
    return [row[name] for row in results(bench)]


def result_files(bench):
    return RESULT_FILES & set(bench.names(FOLDER.prefix))


async def abandon(bench, batch, *, done):
    """Generate `done` images, then disappear with one more in flight."""
    stuck = asyncio.Event()

    class Stuck(ScriptedProvider):
        """Never answers once `done` images were made."""

        async def generate(self, image, references, token):
            if len(self.requests) == done:
                stuck.set()
                self._hold = asyncio.Event()
            return await super().generate(image, references, token)

    task = asyncio.ensure_future(bench.generate(batch, Stuck(), concurrency=1))
    await stuck.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_batch_that_died_before_its_file_was_read_has_a_status_and_a_problem():
    bench = Bench()

    status = close(bench)

    assert status.state is BatchState.FAILED
    assert (status.owner, status.run_id, status.reserved_usd) == (OWNER, RUN_ID, "0.000000")
    assert status.finished_at == bench.clock.now().isoformat()
    assert bench.names() == [FOLDER.problem, FOLDER.status]


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


async def test_settling_books_receipts_assumes_the_rest_and_releases_the_hold():
    bench = Bench()
    batch = bench.open(*some_requests(3))
    await abandon(bench, batch, done=1)

    settle_batch(BATCH_ID, services=bench.services)

    states = [attempt.state for attempt in bench.attempts()]
    assert states == [AttemptState.CAPTURED, AttemptState.ASSUMED]
    assert bench.ledger.open_holds() == []


async def test_publishing_writes_results_costs_and_the_expiry_index():
    bench = Bench()
    await bench.generate(bench.open(*some_requests(2)))

    publish_results(bench.outcome(), run_id=RUN_ID, services=bench.services)

    assert result_files(bench) == RESULT_FILES
    assert list(bench.facts.files) == [FOLDER.costs("2026-03-01")]
    assert len(bench.names("index/expiry/")) == 1


@pytest.mark.parametrize(
    ("script", "state"),
    [
        ({}, BatchState.COMPLETED),
        (
            {"S2/1": [ProviderError("no", kind=ErrorKind.INVALID_REQUEST)]},
            BatchState.COMPLETED_WITH_FAILURES,
        ),
    ],
)
async def test_a_batch_is_completed_only_where_every_image_was_delivered(script, state):
    bench = Bench()
    write_status(
        BATCH_ID,
        BatchState.RUNNING,
        store=bench.store,
        clock=bench.clock,
        problem={"code": "cancelled", "title": "Cancelled"},
    )
    await bench.generate(bench.open(*some_requests(2)), ScriptedProvider(script))

    status = finish_batch(bench.outcome(), services=bench.services)

    assert status.state is state
    assert (status.problem, status.reserved_usd) == (None, "0.000000")
    assert status.finished_at == bench.clock.now().isoformat()


def refusal_of(bench, batch):
    with pytest.raises(BudgetRefused) as refused:
        bench.reserve(batch, run_id="run-2")
    return refused.value


def test_a_refused_batch_lists_every_row_and_how_many_would_fit():
    bench = Bench(limit="0.003")
    batch = bench.open(*some_requests(2))
    refused = refusal_of(bench, batch)

    status = refuse_batch(batch, refused, run_id=RUN_ID, services=bench.services)

    assert status.state is BatchState.REFUSED
    assert status.problem["rows_that_fit"] == 1
    assert status.problem["status"] == 402
    assert column(bench, "status") == ["not_attempted"] * 2
    assert column(bench, "error_code") == ["budget-exceeded"] * 2
    assert result_files(bench) == RESULT_FILES


async def test_a_refused_retry_keeps_what_was_delivered_before():
    bench = Bench(limit="0.005")
    batch = bench.open(*some_requests(2))
    await abandon(bench, batch, done=1)
    close(bench)
    refused = refusal_of(bench, batch)

    status = refuse_batch(batch, refused, run_id="run-2", services=bench.services)

    assert (status.state, status.run_id) == (BatchState.REFUSED, "run-2")
    assert column(bench, "status") == ["delivered", "failed"]
    assert status.images.delivered == 1


def test_an_end_without_an_outcome_keeps_the_counts_of_the_status():
    bench = Bench()
    write_status(BATCH_ID, BatchState.VALIDATING, store=bench.store, clock=bench.clock, rows=7)

    status = end_with_problem(
        BATCH_ID, Died(), outcome=None, run_id=RUN_ID, services=bench.services
    )

    assert (status.rows, status.state) == (7, BatchState.FAILED)
