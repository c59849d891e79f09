"""Run sensors: what ended badly is closed, what is dead is ended."""

import dagster as dg
import pytest

from assetgen_pipeline.defs.sensors import (
    cancelled_run_sensor,
    dead_run_sensor,
    failed_run_sensor,
    inbox_sensor,
)
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import BatchCancelled
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_status import write_status
from assetgen_pipeline.stages.close_batch import close_batch
from assetgen_pipeline.stages.orders import order_cancel
from assetgen_pipeline.stages.waiting_batches import wait_for
from assetgen_pipeline_tests.builders import BATCH_ID, a_csv
from assetgen_pipeline_tests.fake_deployment import add_run, waits
from assetgen_pipeline_tests.sensor_bench import ask, end_of_run

CSV = a_csv(["S1", "a kitchen"], ["S2", "a harbour"])


def a_failed_run(deployment):
    """A run that failed while it held money: its provider has no adapter."""

    def no_adapter(_provider, _model):
        raise ProviderError("no adapter", kind=ErrorKind.FATAL_CONFIG)

    deployment.choose(open_provider=no_adapter)
    deployment.upload(CSV)
    result = deployment.run()
    assert not result.success
    assert deployment.ledger.open_holds()
    return result


def test_a_failed_run_is_closed_with_results_and_without_its_hold(deployment):
    result = a_failed_run(deployment)
    context = end_of_run(
        failed_run_sensor, result.run_id, deployment, result.get_run_failure_event()
    ).for_run_failure()

    failed_run_sensor(context)

    status = deployment.status()
    assert status.state is BatchState.FAILED
    assert status.problem["type"] == "urn:assetgen:problem:provider-config"
    assert status.images.not_attempted == 2
    assert deployment.ledger.open_holds() == []
    folder = BatchFolder(BATCH_ID)
    assert all(deployment.has(name) for name in (folder.results, folder.failed, folder.problem))


def test_a_cancelled_run_is_closed_as_cancelled(deployment):
    result = a_failed_run(deployment)
    event = result.all_events[-1]

    cancelled_run_sensor(end_of_run(cancelled_run_sensor, result.run_id, deployment, event))

    assert deployment.status().state is BatchState.CANCELLED
    assert deployment.ledger.open_holds() == []


def test_a_run_that_is_cancelled_in_the_queue_takes_its_file_with_it(deployment):
    deployment.drop("inbox/studio/a.csv", CSV)
    first = ask(inbox_sensor, deployment)
    [request] = first.run_requests
    run = dg.DagsterRun(
        job_name="generate_batch",
        status=dg.DagsterRunStatus.CANCELED,
        tags={
            **request.tags,
            "dagster/run_key": request.run_key,
            "dagster/partition": request.partition_key,
        },
    )
    deployment.instance.add_run(run)
    event = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.RUN_CANCELED.value, job_name=run.job_name
    )

    second = ask(inbox_sensor, deployment, first.cursor)
    cancelled_run_sensor(end_of_run(cancelled_run_sensor, run.run_id, deployment, event))
    third = ask(inbox_sensor, deployment, second.cursor)

    assert (second.run_requests, third.run_requests) == ([], [])
    assert list(deployment.store.list("inbox/")) == []
    status = deployment.status(request.partition_key)
    assert (status.state, status.images.not_attempted) == (BatchState.CANCELLED, 2)
    assert deployment.has(BatchFolder(request.partition_key).results)


@pytest.mark.parametrize("claimed", [True, False])
def test_a_retry_that_comes_before_the_cancelled_run_is_closed_is_not_taken_back(
    deployment, claimed
):
    result = a_failed_run(deployment)
    run = (
        deployment.instance.get_run_by_id(result.run_id)
        if claimed
        else add_run(deployment.instance, status=dg.DagsterRunStatus.CANCELED)
    )
    event = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.RUN_CANCELED.value, job_name=run.job_name
    )
    services, error = deployment.services, BatchCancelled("by `cancel`")
    close_batch(BATCH_ID, error, run_id=result.run_id, services=services)
    wait_for("run", BATCH_ID, store=deployment.store, clock=deployment.clock)
    write_status(BATCH_ID, BatchState.RECEIVED, store=deployment.store, clock=deployment.clock)

    cancelled_run_sensor(end_of_run(cancelled_run_sensor, run.run_id, deployment, event))

    assert (deployment.status().state, waits(deployment)) == (BatchState.RECEIVED, "run")


def test_a_retry_that_comes_before_the_refused_run_is_closed_is_not_refused_again(deployment):
    deployment.upload(CSV)
    deployment.ledger.set_limit("studio", Money(1), set_by="somebody")
    result = deployment.run()
    refused = deployment.status().state
    wait_for("run", BATCH_ID, store=deployment.store, clock=deployment.clock)
    write_status(BATCH_ID, BatchState.RECEIVED, store=deployment.store, clock=deployment.clock)
    context = end_of_run(
        failed_run_sensor, result.run_id, deployment, result.get_run_failure_event()
    ).for_run_failure()

    failed_run_sensor(context)

    assert refused is BatchState.REFUSED
    assert (deployment.status().state, waits(deployment)) == (BatchState.RECEIVED, "run")


def test_what_is_ordered_to_stop_since_it_was_asked_for_is_closed(deployment):
    result = a_failed_run(deployment)
    event = result.all_events[-1]
    wait_for("run", BATCH_ID, store=deployment.store, clock=deployment.clock)
    order_cancel(BATCH_ID, by="somebody", store=deployment.store, clock=deployment.clock)

    cancelled_run_sensor(end_of_run(cancelled_run_sensor, result.run_id, deployment, event))

    assert (deployment.status().state, waits(deployment)) == (BatchState.CANCELLED, None)


def test_a_failed_run_of_no_batch_is_left_alone(deployment):
    @dg.op
    def fails():
        raise RuntimeError

    @dg.job
    def maintenance():
        fails()

    result = maintenance.execute_in_process(instance=deployment.instance, raise_on_error=False)
    context = end_of_run(
        failed_run_sensor, result.run_id, deployment, result.get_run_failure_event()
    ).for_run_failure()

    failed_run_sensor(context)

    assert list(deployment.store.list("")) == []


def test_the_dead_run_sensor_ends_a_run_whose_worker_is_gone_and_says_so(deployment, gone):
    dead = add_run(
        deployment.instance,
        status=dg.DagsterRunStatus.STARTED,
        assetgen__worker=gone,
    )

    def look():
        return ask(dead_run_sensor, deployment).skip_message

    assert look() == f"ended {dead.run_id}"
    assert look() == "no dead run"
