"""The sweep: runs whose process was killed are ended, live ones never."""

import json

import dagster as dg
import pytest

from assetgen_pipeline.defs.closing import MAX_DEATHS, sweep
from assetgen_pipeline.defs.runs import WAIT_TAG
from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.orders import order_cancel
from assetgen_pipeline_tests.builders import BATCH_ID, a_csv
from assetgen_pipeline_tests.fake_deployment import add_run, hold, waits

CSV = a_csv(["S1", "a kitchen"])
STARTED = dg.DagsterRunStatus.STARTED
WORKING = [
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


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


@pytest.mark.parametrize(
    "tags",
    [
        {"assetgen__inbox_object": "inbox/studio/spring.csv"},
        {"assetgen__inbox_object": "inbox/studio/spring.csv", "assetgen__inbox_generation": "new"},
        {"assetgen__wait": "now"},
        {"assetgen__wait": "9" * 5_000},
    ],
)
def test_tags_of_somebodys_own_keep_neither_the_run_nor_its_money_from_ending(
    deployment, gone, tags
):
    hold(deployment)
    run = add_run(deployment.instance, status=STARTED, assetgen__worker=gone, **tags)

    assert sweep(deployment.instance, services=deployment.services) == [run.run_id]
    assert deployment.ledger.open_holds() == []
    assert deployment.status().state is BatchState.FAILED


def test_a_second_sweep_finds_nothing_more(deployment, gone):
    add_run(deployment.instance, status=dg.DagsterRunStatus.STARTED, assetgen__worker=gone)
    sweep(deployment.instance, services=deployment.services)

    assert sweep(deployment.instance, services=deployment.services) == []


def kill_run(deployment, gone, **tags):
    """A run whose process was killed, swept."""
    run = add_run(deployment.instance, status=STARTED, assetgen__worker=gone, **tags)
    sweep(deployment.instance, services=deployment.services)
    return run


def kill_run_of(deployment, gone, drop, *, batch_id):
    """As `kill_run`, of a run whose tags name a drop."""
    return kill_run(
        deployment,
        gone,
        batch_id=batch_id,
        assetgen__inbox_object=drop.name,
        assetgen__inbox_generation=str(drop.generation),
    )


def test_the_batch_of_a_dead_run_is_finished_by_another_without_anybody_asking(deployment, gone):
    deployment.upload(CSV)

    kill_run(deployment, gone)

    assert deployment.status().state is BatchState.FAILED
    assert deployment.status().resumes
    assert waits(deployment) == "run"
    assert deployment.run().success
    assert deployment.status().state is BatchState.COMPLETED
    assert waits(deployment) is None


def test_a_batch_that_kills_every_process_is_given_up(deployment, gone):
    deployment.upload(CSV)
    waited, tags = [], {}

    for _ in range(MAX_DEATHS + 1):
        kill_run(deployment, gone, **tags)
        waited.append(waits(deployment))
        entry = deployment.store.stat(BatchFolder(BATCH_ID).waiting)
        tags = {WAIT_TAG: str(entry.generation)} if entry is not None else {}

    assert waited == ["run"] * MAX_DEATHS + [None]
    assert deployment.status().state is BatchState.FAILED
    assert not deployment.status().resumes


def test_a_dead_run_whose_batch_was_ordered_to_stop_ends_cancelled_and_stays_so(deployment, gone):
    deployment.upload(CSV)
    order_cancel(BATCH_ID, by="ann", store=deployment.store, clock=deployment.clock)

    run = kill_run(deployment, gone)

    assert deployment.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.CANCELED
    assert deployment.status().state is BatchState.CANCELLED
    assert waits(deployment) is None


def test_a_run_that_died_before_it_claimed_its_file_leaves_the_file_to_the_inbox(deployment, gone):
    info = deployment.drop("inbox/studio/a.csv")
    batch_id = deployment.batch_of(info)

    kill_run_of(deployment, gone, info, batch_id=batch_id)

    assert deployment.has(info.name)
    assert waits(deployment, batch_id) is None
    assert not deployment.has(BatchFolder(batch_id).status)


def test_a_run_that_died_between_its_claim_and_the_end_of_the_drop_leaves_no_second_batch(
    deployment, gone
):
    info = deployment.drop("inbox/studio/a.csv")
    batch_id = deployment.batch_of(info)
    deployment.upload(CSV, batch_id=batch_id)

    kill_run_of(deployment, gone, info, batch_id=batch_id)

    assert not deployment.has(info.name)
    assert waits(deployment, batch_id) == "run"


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("claimed", [False, True])
def test_a_run_whose_tags_name_another_batchs_file_leaves_it_in_the_inbox(
    deployment, gone, cancelled, claimed
):
    info = deployment.drop("inbox/other/a.csv")
    if claimed:
        deployment.upload(CSV)
    if cancelled:
        order_cancel(BATCH_ID, by="ada", store=deployment.store, clock=deployment.clock)

    kill_run_of(deployment, gone, info, batch_id=BATCH_ID)

    assert deployment.has(info.name)
    assert deployment.has(BatchFolder(BATCH_ID).request) is claimed


def test_a_run_that_was_asked_for_and_died_at_once_is_asked_for_again(deployment, gone):
    deployment.upload(CSV)
    kill_run(deployment, gone)
    first = deployment.store.stat(BatchFolder(BATCH_ID).waiting).generation

    kill_run(deployment, gone, **{WAIT_TAG: str(first)})

    assert deployment.store.stat(BatchFolder(BATCH_ID).waiting).generation != first


def test_a_run_that_never_reached_a_worker_is_dead_once_its_launcher_is_gone(deployment, tmp_path):
    deployment.upload(CSV)
    where = json.dumps({"host": "localhost", "socket": str(tmp_path / "gone.sock")})
    run = add_run(
        deployment.instance,
        status=dg.DagsterRunStatus.STARTING,
        **{".dagster/grpc_info": where},
    )
    instance, services = deployment.instance, deployment.services

    elsewhere = sweep(instance, services=services)
    here = sweep(instance, services=services, launches_here=True)

    assert (elsewhere, here) == ([], [run.run_id])
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE
    assert waits(deployment) == "run"
