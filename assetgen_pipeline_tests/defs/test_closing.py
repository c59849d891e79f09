"""Closing the batch of a run that Dagster reports over: once, and what becomes of it."""

import dagster as dg
import pytest

from assetgen_pipeline.defs.closing import close_failed_run, close_run
from assetgen_pipeline.defs.recovery import recover
from assetgen_pipeline.defs.run_failure import RunFailed
from assetgen_pipeline.defs.runs import WAIT_TAG
from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import BatchCancelled
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_status import write_status
from assetgen_pipeline.stages.orders import order_cancel
from assetgen_pipeline.stages.waiting_batches import wait_for
from assetgen_pipeline_tests.builders import BATCH_ID, a_csv
from assetgen_pipeline_tests.fake_deployment import add_run, hold, waits

CSV = a_csv(["S1", "a kitchen"])
STARTED = dg.DagsterRunStatus.STARTED
STEP_FAILED = {"dagster/failure_reason": "STEP_FAILURE"}


def test_closing_a_run_twice_leaves_the_first_problem(deployment):
    run = add_run(deployment.instance, status=dg.DagsterRunStatus.FAILURE)
    instance, services = deployment.instance, deployment.services
    close_run(instance, run, RunFailed("a step failed"), services=services)
    first = deployment.store.read(BatchFolder(BATCH_ID).problem)

    assert close_run(instance, run, RunFailed("something else"), services=services)

    assert deployment.store.read(BatchFolder(BATCH_ID).problem) == first


@pytest.mark.parametrize("tags", [{}, STEP_FAILED])
def test_a_late_event_of_an_old_run_does_not_end_the_work_of_a_new_one(deployment, tags):
    old = add_run(deployment.instance, status=dg.DagsterRunStatus.FAILURE, **tags)
    new = add_run(deployment.instance, status=STARTED, assetgen__worker=worker_identity())
    deployment.upload(CSV, run_id=new.run_id)
    write_status(BATCH_ID, BatchState.RUNNING, store=deployment.store, clock=deployment.clock)
    hold(deployment)

    close_failed_run(deployment.instance, old, services=deployment.services)

    assert deployment.status().state is BatchState.RUNNING
    assert len(deployment.ledger.open_holds()) == 1
    assert waits(deployment) is None


def test_a_late_event_of_an_old_run_does_not_spoil_the_results_of_a_new_one(deployment):
    old = add_run(deployment.instance, status=dg.DagsterRunStatus.FAILURE, **STEP_FAILED)
    deployment.upload(CSV)
    deployment.run()

    close_failed_run(deployment.instance, old, services=deployment.services)

    assert deployment.status().state is BatchState.COMPLETED


def test_what_dagster_reports_dead_is_finished_too_and_once(deployment):
    deployment.upload(CSV)
    run = add_run(deployment.instance, status=dg.DagsterRunStatus.FAILURE)
    instance, services = deployment.instance, deployment.services
    close_failed_run(instance, run, services=services)
    first = deployment.store.stat(BatchFolder(BATCH_ID).waiting).generation

    close_failed_run(instance, instance.get_run_by_id(run.run_id), services=services)

    assert deployment.store.stat(BatchFolder(BATCH_ID).waiting).generation == first


def test_a_step_that_failed_is_not_run_again_by_itself(deployment):
    deployment.upload(CSV)
    run = add_run(deployment.instance, status=dg.DagsterRunStatus.FAILURE, **STEP_FAILED)

    close_failed_run(deployment.instance, run, services=deployment.services)

    assert deployment.status().state is BatchState.FAILED
    assert waits(deployment) is None


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_retry_that_was_asked_for_before_the_run_was_closed_stays_unless_it_was_cancelled(
    deployment, cancelled
):
    deployment.upload(CSV)
    error = BatchCancelled("stop") if cancelled else RunFailed("a step of the run failed")
    run = add_run(deployment.instance, status=dg.DagsterRunStatus.FAILURE)
    wait_for("run", BATCH_ID, store=deployment.store, clock=deployment.clock)
    if cancelled:
        order_cancel(BATCH_ID, by="somebody", store=deployment.store, clock=deployment.clock)

    close_run(deployment.instance, run, error, services=deployment.services)

    assert deployment.status().state in {BatchState.FAILED, BatchState.CANCELLED}
    assert (waits(deployment) is None) is cancelled


def test_a_request_whose_run_failed_is_answered(deployment):
    deployment.upload(CSV)
    wait_for("run", BATCH_ID, store=deployment.store, clock=deployment.clock)
    generation = deployment.store.stat(BatchFolder(BATCH_ID).waiting).generation
    tags = {WAIT_TAG: str(generation), **STEP_FAILED}
    run = add_run(deployment.instance, status=dg.DagsterRunStatus.FAILURE, **tags)

    close_failed_run(deployment.instance, run, services=deployment.services)

    assert waits(deployment) is None


@pytest.mark.parametrize("reason", ["UNEXPECTED_TERMINATION", "START_TIMEOUT", "UNKNOWN", None])
def test_a_process_that_was_ended_or_never_began_is_a_death(deployment, reason):
    deployment.upload(CSV)
    tags = {"dagster/failure_reason": reason} if reason else {}
    run = add_run(deployment.instance, status=dg.DagsterRunStatus.FAILURE, **tags)

    close_failed_run(deployment.instance, run, services=deployment.services)

    assert waits(deployment) == "run"


def test_a_hold_of_a_run_that_was_ended_is_recovered_and_its_batch_finished(deployment):
    """What a stack that starts finds before any sensor has looked."""
    run = add_run(
        deployment.instance,
        status=dg.DagsterRunStatus.FAILURE,
        **{"dagster/failure_reason": "UNEXPECTED_TERMINATION"},
    )
    deployment.upload(CSV, run_id=run.run_id)
    hold(deployment, run.run_id)

    recover(deployment.instance, services=deployment.services)

    assert deployment.ledger.open_holds() == []
    assert deployment.status().state is BatchState.FAILED
    assert deployment.status().resumes
    assert waits(deployment) == "run"
