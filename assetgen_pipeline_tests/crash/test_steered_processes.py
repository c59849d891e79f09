"""Orders from another process to a run at work, and a killed run finished by what the sensor asks."""

import json
import subprocess

import dagster as dg
import pytest

from assetgen_pipeline.defs import control
from assetgen_pipeline.defs.build import build_definitions
from assetgen_pipeline.defs.sensors import waiting_sensor
from assetgen_pipeline.domain.bucket_layout import OUTBOX
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.status import BatchState, BatchStatus
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.wiring.deployment import open_deployment
from assetgen_pipeline.wiring.services import open_all
from assetgen_pipeline_tests.processes import DEADLINE_S, is_alive, kill, processes_of, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

# So many that the order comes in the middle on any machine.
ROWS = 40
STACK_SETTINGS = {"ASSETGEN_LOCAL_LATENCY_S": "1.5", "ASSETGEN_GENERATION_CONCURRENCY": "1"}


@pytest.fixture
def services(stack):
    with open_all(load_settings()) as opened:
        yield opened


@pytest.fixture
def running(stack, services):
    """`assetgen run` at work: its process, and its batch with two images delivered."""
    file = stack.file("many.csv", ROWS)
    process = stack.command(
        "run", file, "--owner", "ada", "--json", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )

    def at_work():
        assert process.poll() is None
        for found in list(services.store.list(OUTBOX)):
            if found.name.endswith("/status.json"):
                status = BatchStatus.model_validate_json(services.store.read(found.name))
                if len(delivered(services, status.batch_id)) >= 2:
                    return status.batch_id
        return None

    return process, until(at_work)


def delivered(services, batch_id):
    return [a.item_key for a in services.ledger.attempts(batch_id) if a.image is not None]


def run_statuses(batch_id):
    with control.open_instance(load_settings()) as instance:
        runs = instance.get_runs(filters=dg.RunsFilter(tags={"dagster/partition": batch_id}))
        return [run.status for run in runs]


def broken(services):
    return [check.name for check in services.ledger.verify() if check.violations]


def test_a_batch_is_cancelled_from_another_process_and_goes_on_with_retry(stack, services, running):
    process, batch_id = running

    code, cancelled = stack.answer("cancel", batch_id)
    out, _err = process.communicate(timeout=DEADLINE_S)

    assert (code, cancelled["state"]) == (0, "cancelled")
    assert process.returncode == 5
    assert json.loads(out)["state"] == "cancelled"
    assert run_statuses(batch_id) == [dg.DagsterRunStatus.CANCELED]
    attempts = services.ledger.attempts(batch_id)
    # Calls in flight finished: nothing is left that nobody knows the bill of.
    assert {attempt.state for attempt in attempts} == {AttemptState.CAPTURED}
    assert 2 <= len(attempts) < ROWS
    assert (services.ledger.open_holds(), broken(services)) == ([], [])

    # What is left goes fast.
    stack.variables = {}
    code, done = stack.answer("retry", batch_id)

    assert (code, done["state"]) == (0, "completed")
    assert sorted(delivered(services, batch_id)) == sorted(f"S{n}/1" for n in range(ROWS))


def test_a_batch_is_paused_and_resumed_from_another_process_and_its_command_goes_on(
    stack, services, running
):
    process, batch_id = running

    assert stack.answer("pause", "--owner", "ada", "--why", "a test")[0] == 0
    until(lambda: services.store.stat(f"index/waiting/{batch_id}"))
    until(lambda: not [c for c in processes_of(stack.home).values() if " execute " in c])
    while_paused = delivered(services, batch_id)
    slots = control.pool_slots(load_settings())
    assert services.ledger.open_holds() == []
    assert {used for _limit, used in slots.values()} == {0}
    assert stack.answer("resume", "--owner", "ada")[0] == 0
    out, _err = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 0
    assert json.loads(out)["state"] == "completed"
    made = delivered(services, batch_id)
    assert made[: len(while_paused)] == while_paused
    assert sorted(made) == sorted(f"S{n}/1" for n in range(ROWS))
    assert broken(services) == []


def test_a_killed_batch_is_finished_by_the_run_that_the_sensor_asks_for(stack, services, running):
    _process, batch_id = running
    pids = [pid for pid, command in processes_of(stack.home).items() if "many.csv" in command]
    pids += [pid for pid, command in processes_of(stack.home).items() if " execute " in command]
    kill(pids)
    until(lambda: not any(is_alive(pid) for pid in pids))
    settings = load_settings()
    before = delivered(services, batch_id)

    control.sweep_dead_runs(settings)
    failed = read_status(batch_id, store=services.store).state
    job = build_definitions(settings).resolve_job_def("generate_batch")
    with control.open_instance(settings) as instance:
        with dg.build_sensor_context(
            instance=instance,
            resources={"services": services, "deployment": open_deployment(settings)},
        ) as context:
            [request] = waiting_sensor(context).run_requests
        result = job.execute_in_process(
            partition_key=request.partition_key, instance=instance, tags=request.tags
        )

    assert failed is BatchState.FAILED
    assert result.success
    assert read_status(batch_id, store=services.store).state is BatchState.COMPLETED
    made = delivered(services, batch_id)
    assert made[: len(before)] == before
    assert sorted(made) == sorted(f"S{n}/1" for n in range(ROWS))
    assert services.store.stat(f"index/waiting/{batch_id}") is None
    assert (services.ledger.open_holds(), broken(services)) == ([], [])
