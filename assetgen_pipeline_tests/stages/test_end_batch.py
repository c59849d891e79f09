"""A batch's last steps: settled, published, finished or refused."""

import pytest

from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.errors import BudgetRefused
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_status import write_status
from assetgen_pipeline.stages.close_batch import (
    end_with_problem,
    finish_batch,
    publish_results,
    refuse_batch,
    settle_batch,
)
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, RUN_ID
from assetgen_pipeline_tests.closed_batches import (
    FOLDER,
    RESULT_FILES,
    Died,
    abandon,
    close,
    column,
    result_files,
)
from assetgen_pipeline_tests.stage_bench import Bench, some_requests


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

    publish_results(bench.outcome(), services=bench.services)

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
    assert status.estimate_usd == refused.estimate.usd()
    assert column(bench, "status") == ["delivered", "failed"]
    assert status.images.delivered == 1


def test_an_end_without_an_outcome_keeps_the_counts_of_the_status():
    bench = Bench()
    write_status(BATCH_ID, BatchState.VALIDATING, store=bench.store, clock=bench.clock, rows=7)

    status = end_with_problem(
        BATCH_ID, Died(), outcome=None, run_id=RUN_ID, services=bench.services
    )

    assert (status.rows, status.state) == (7, BatchState.FAILED)
