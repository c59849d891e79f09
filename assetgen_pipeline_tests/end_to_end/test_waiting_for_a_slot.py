"""A batch whose step waits for the slot of a pool that another run holds: cancelled, paused, told to end."""

import csv
import io
import subprocess

import dagster as dg
import pytest

from assetgen_pipeline.defs import control
from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.wiring.services import open_all
from assetgen_pipeline_tests.fake_deployment import add_run
from assetgen_pipeline_tests.processes import DEADLINE_S, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

STACK_SETTINGS = {"ASSETGEN_GENERATION_POOL": "1"}
POOLS = ["generation", "reference_fetch"]


@pytest.fixture
def services(stack):
    with open_all(load_settings()) as opened:
        yield opened


@pytest.fixture
def instance(stack):
    with control.open_instance(load_settings(generation_pool=1)) as opened:
        yield opened


def hold(instance, pool):
    """Have a run of this process, which lives, take the pool's only slot."""
    run = add_run(
        instance,
        status=dg.DagsterRunStatus.STARTED,
        batch_id="ada.holder.00000000",
        assetgen__worker=worker_identity(),
    )
    claim = instance.event_log_storage.claim_concurrency_slot(pool, run.run_id, "a_step")
    assert claim.is_claimed
    return run


def a_file(stack):
    file = stack.home.parent / "waits.csv"
    url = "https://reference.invalid/chair.png"
    file.write_text(f"scene_id,prompt,reference_urls\nS1,a kitchen,{url}\n", encoding="utf-8")
    return file


def waiting_run(instance, pool, batch_id):
    """The batch's run, once it stands in the pool's queue."""

    def stands():
        info = instance.event_log_storage.get_concurrency_info(pool)
        runs = instance.get_runs(filters=dg.RunsFilter(tags={"dagster/partition": batch_id}))
        return [run.run_id for run in runs if run.run_id in info.pending_run_ids]

    return until(stands)[0]


def submitted(stack, file):
    return stack.answer("submit", file, "--owner", "ben")[1]["batch_id"]


@pytest.mark.parametrize("pool", POOLS)
def test_cancel_ends_it_in_seconds_and_without_a_slot(stack, services, instance, pool):
    hold(instance, pool)
    stack.start()
    batch_id = submitted(stack, a_file(stack))
    run_id = waiting_run(instance, pool, batch_id)

    code, cancelled = stack.answer("cancel", batch_id, "--grace", "3600")

    assert (code, cancelled["state"]) == (0, "cancelled")
    # A run that was terminated in the end has its steps interrupted.
    ended = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert instance.get_run_by_id(run_id).status is dg.DagsterRunStatus.CANCELED
    assert [event.dagster_event.step_failure_data.user_failure_data is None for event in ended] == [
        False
    ]
    rows = csv.DictReader(io.StringIO(services.store.read(BatchFolder(batch_id).results).decode()))
    assert [(row["status"], row["error_code"]) for row in rows] == [("not_attempted", "cancelled")]
    assert services.ledger.open_holds() == []


def test_paused_it_lets_go_of_run_and_money_and_goes_on_once_both_are_free(
    stack, services, instance
):
    holder = hold(instance, "generation")
    stack.start()
    batch_id = submitted(stack, a_file(stack))
    run_id = waiting_run(instance, "generation", batch_id)

    assert stack.answer("pause", "--owner", "ben")[0] == 0
    until(lambda: instance.get_run_by_id(run_id).is_finished)
    held, waits = services.ledger.open_holds(), services.store.stat(f"index/waiting/{batch_id}")
    ended = instance.get_run_by_id(run_id).status
    instance.report_run_canceled(holder)
    instance.event_log_storage.free_concurrency_slots_for_run(holder.run_id)
    assert stack.answer("resume", "--owner", "ben")[0] == 0
    until(lambda: read_status(batch_id, store=services.store).state is BatchState.COMPLETED)

    assert (held, ended) == ([], dg.DagsterRunStatus.SUCCESS)
    assert waits is not None


def test_a_run_without_a_daemon_is_cancelled_too(stack, services, instance):
    hold(instance, "generation")
    process = stack.command("run", a_file(stack), "--owner", "ben", stdout=subprocess.DEVNULL)
    queue = until(
        lambda: instance.event_log_storage.get_concurrency_info("generation").pending_run_ids
    )
    batch_id = instance.get_run_by_id(queue.pop()).tags["dagster/partition"]

    code, cancelled = stack.answer("cancel", batch_id, "--grace", "3600")

    assert (code, cancelled["state"]) == (0, "cancelled")
    assert process.wait(timeout=DEADLINE_S) == 5
    assert services.ledger.open_holds() == []
