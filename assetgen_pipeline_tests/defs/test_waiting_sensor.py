"""The sensor that looks after batches that wait."""

from datetime import timedelta

import dagster as dg
import pytest

from assetgen_pipeline.defs.runs import WAIT_TAG
from assetgen_pipeline.defs.sensors import inbox_sensor, waiting_sensor
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.pauses import Pause
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.approvals import ApprovalPolicy
from assetgen_pipeline.stages.pausing import change_pauses
from assetgen_pipeline.stages.waiting_batches import read_waiting, wait_for
from assetgen_pipeline_tests.builders import BATCH_ID, NOW, a_csv
from assetgen_pipeline_tests.fake_deployment import add_run
from assetgen_pipeline_tests.sensor_bench import ask, said

CSV = a_csv(["S1", "a kitchen"], ["S2", "a harbour"])


def tick(deployment, sensor=waiting_sensor, cursor=None):
    return ask(sensor, deployment, cursor)


def put(deployment, cause="run", batch_id=BATCH_ID, **facts):
    wait_for(cause, batch_id, store=deployment.store, clock=deployment.clock, **facts)


def paused(deployment, scope="owner", name="studio"):
    pause = Pause(scope=scope, name=name, by="ann", at=NOW, why="the bill")
    change_pauses(lambda known: known.with_pause(pause), store=deployment.store)


def resumed(deployment):
    change_pauses(lambda known: known.without("all", ""), store=deployment.store)


def test_an_empty_list_is_skipped_with_a_reason(deployment):
    assert said(tick(deployment)) == "0 wait, 0 expired"


def test_a_batch_that_needs_a_run_is_asked_one_for(deployment):
    put(deployment)

    result = tick(deployment)

    generation = deployment.store.stat(BatchFolder(BATCH_ID).waiting).generation
    [request] = result.run_requests
    assert request.partition_key == BATCH_ID
    assert request.run_key == f"{BATCH_ID}#{generation}"
    assert request.tags["assetgen/owner"] == "studio"
    assert request.tags[WAIT_TAG] == str(generation)
    assert result.dynamic_partitions_requests[0].partition_keys == [BATCH_ID]


def test_the_same_wait_is_asked_for_under_the_same_key_and_another_one_is_not(deployment):
    put(deployment)
    first, second = tick(deployment), tick(deployment)
    put(deployment)

    third = tick(deployment)

    keys = [result.run_requests[0].run_key for result in (first, second, third)]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED])
def test_a_batch_that_has_a_run_already_gets_no_other(deployment, status):
    put(deployment)
    add_run(deployment.instance, status=status)

    result = tick(deployment)

    assert result.run_requests == []
    assert said(result) == "1 wait, 0 expired"


@pytest.mark.parametrize("cause", ["pause", "run"])
def test_a_paused_batch_is_asked_for_once_it_is_resumed(deployment, cause):
    put(deployment, cause)
    paused(deployment)

    while_paused = tick(deployment)
    resumed(deployment)
    after = tick(deployment)

    assert while_paused.run_requests == []
    assert [request.partition_key for request in after.run_requests] == [BATCH_ID]


def test_no_tick_asks_for_more_runs_than_it_may(deployment):
    deployment.choose(max_runs_per_tick=2)
    for n in range(5):
        put(deployment, batch_id=f"ada.b{n}.0000000{n}")

    assert len(tick(deployment).run_requests) == 2


def test_a_batch_that_nobody_approved_in_time_is_cancelled_and_says_so(deployment):
    deployment.choose(approval=ApprovalPolicy(above=Money(1), expires=timedelta(days=2)))
    deployment.upload(CSV)
    run_id = deployment.run().run_id

    early = tick(deployment)
    deployment.clock.advance(timedelta(days=2))
    late = tick(deployment)

    assert said(early) == "1 wait, 0 expired"
    assert said(late) == "0 wait, 1 expired"
    status = deployment.status()
    assert (status.state, status.run_id) == (BatchState.CANCELLED, run_id)
    assert "waited for approval" in status.problem["detail"]
    assert status.images.not_attempted == 2
    assert read_waiting(BATCH_ID, store=deployment.store) is None
    assert said(tick(deployment)) == "0 wait, 0 expired"


def test_an_expired_batch_that_cannot_be_closed_holds_up_no_other(deployment):
    deployment.choose(approval=ApprovalPolicy(above=Money(1), expires=timedelta(days=2)))
    deployment.upload(CSV)
    deployment.run()
    folder = BatchFolder(BATCH_ID)
    deployment.store.write(folder.status, b"{", content_type="application/json")
    put(deployment, batch_id="studio.zoo.0123abcd")
    deployment.clock.advance(timedelta(days=2))

    result = tick(deployment)

    assert [request.partition_key for request in result.run_requests] == ["studio.zoo.0123abcd"]
    assert read_waiting(BATCH_ID, store=deployment.store).cause == "approval"


def test_the_run_that_was_asked_for_takes_its_batch_off_the_list(deployment):
    deployment.upload(CSV)
    put(deployment)
    [request] = tick(deployment).run_requests

    assert deployment.run(tags=request.tags).success

    assert said(tick(deployment)) == "0 wait, 0 expired"
    assert deployment.status().state is BatchState.COMPLETED


def test_the_files_of_a_paused_owner_stay_in_the_inbox_and_the_tick_says_why(deployment):
    deployment.drop("inbox/ada/a.csv")
    deployment.drop("inbox/studio/b.csv")
    paused(deployment)

    first = tick(deployment, inbox_sensor)
    resumed(deployment)
    second = tick(deployment, inbox_sensor, first.cursor)

    assert [r.tags["assetgen/owner"] for r in first.run_requests] == ["ada"]
    assert [r.tags["assetgen/owner"] for r in second.run_requests] == ["studio"]


def test_a_tick_with_nothing_but_paused_files_names_the_pause(deployment):
    deployment.drop("inbox/studio/a.csv")
    deployment.drop("inbox/studio/b.csv")
    paused(deployment)

    message = said(tick(deployment, inbox_sensor))

    assert message.startswith("2 of studio wait: owner studio is paused by ann since ")
    assert message.endswith(": the bill")
    assert len(list(deployment.store.list("inbox/"))) == 2
