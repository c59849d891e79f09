"""The sweep: runs whose process was killed are ended, live ones never."""

import dagster as dg
import pytest

from assetgen_pipeline.defs.closing import RunFailed, close_run, sweep
from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline_tests.builders import BATCH_ID
from assetgen_pipeline_tests.fake_deployment import add_run

WORKING = [
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@pytest.fixture
def gone():
    host, boot, pid, _started = worker_identity().split("/")
    return f"{host}/{boot}/{pid}/1"


def hold(deployment):
    deployment.ledger.reserve(
        owner="studio", batch_id=BATCH_ID, run_id="r", amount=Money(500), price_version="p"
    )


def test_a_dead_run_is_reported_failed_and_its_batch_is_closed(deployment, gone):
    hold(deployment)
    run = add_run(deployment.instance, status=dg.DagsterRunStatus.STARTED, assetgen__worker=gone)

    ended = sweep(deployment.instance, services=deployment.services)

    assert ended == [run.run_id]
    assert deployment.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE
    status = deployment.status()
    assert (status.state, status.run_id) == (BatchState.FAILED, run.run_id)
    assert deployment.has(BatchFolder(BATCH_ID).problem)
    assert deployment.ledger.open_holds() == []


def test_a_run_that_died_while_it_was_cancelled_ends_cancelled(deployment, gone):
    run = add_run(deployment.instance, status=dg.DagsterRunStatus.CANCELING, assetgen__worker=gone)

    sweep(deployment.instance, services=deployment.services)

    assert deployment.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.CANCELED
    assert deployment.status().state is BatchState.CANCELLED


@pytest.mark.parametrize("status", WORKING)
def test_a_live_run_is_left_alone(deployment, status):
    hold(deployment)
    run = add_run(deployment.instance, status=status, assetgen__worker=worker_identity())

    ended = sweep(deployment.instance, services=deployment.services)

    assert ended == []
    assert deployment.instance.get_run_by_id(run.run_id).status is status
    assert len(deployment.ledger.open_holds()) == 1
    assert list(deployment.store.list("")) == []


def test_a_started_run_that_no_worker_signed_is_left_alone(deployment):
    run = add_run(deployment.instance, status=dg.DagsterRunStatus.STARTED)

    assert sweep(deployment.instance, services=deployment.services) == []
    assert deployment.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.STARTED


def test_a_dead_run_of_no_batch_is_ended_without_touching_the_bucket(deployment, gone):
    run = add_run(
        deployment.instance,
        status=dg.DagsterRunStatus.STARTED,
        batch_id="2026-01-01",
        assetgen__worker=gone,
    )

    assert sweep(deployment.instance, services=deployment.services) == [run.run_id]
    assert list(deployment.store.list("")) == []


def test_a_second_sweep_finds_nothing_more(deployment, gone):
    add_run(deployment.instance, status=dg.DagsterRunStatus.STARTED, assetgen__worker=gone)
    sweep(deployment.instance, services=deployment.services)

    assert sweep(deployment.instance, services=deployment.services) == []


def test_closing_a_run_twice_leaves_the_first_problem(deployment):
    run = add_run(deployment.instance, status=dg.DagsterRunStatus.FAILURE)
    close_run(run, RunFailed("a step failed"), services=deployment.services)
    first = deployment.store.read(BatchFolder(BATCH_ID).problem)

    assert close_run(run, RunFailed("something else"), services=deployment.services)

    assert deployment.store.read(BatchFolder(BATCH_ID).problem) == first
