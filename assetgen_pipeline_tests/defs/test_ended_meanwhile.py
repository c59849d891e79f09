"""Runs that end by themselves between two looks at them: what was read first is not their end."""

import json
from contextlib import nullcontext

import dagster as dg
import pytest

from assetgen_pipeline.defs import control
from assetgen_pipeline.defs.closing import sweep
from assetgen_pipeline.defs.instance_health import _dead
from assetgen_pipeline.defs.recovery import fate_of, recover
from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.batch_status import write_status
from assetgen_pipeline.stages.recover_holds import RunFate
from assetgen_pipeline_tests.builders import BATCH_ID, a_csv
from assetgen_pipeline_tests.fake_deployment import add_run, hold, waits

CSV = a_csv(["S1", "a kitchen"])
STATUS = dg.DagsterRunStatus


@pytest.fixture
def looked_at(deployment, gone, monkeypatch):
    """A run that ends, and its process with it, as soon as somebody has read that it works."""
    instance = deployment.instance
    run = add_run(instance, status=STATUS.STARTED, assetgen__worker=gone)
    looks = ("get_runs", "get_run_by_id", "get_run_records")
    read = {name: getattr(instance, name) for name in looks}

    def end():
        monkeypatch.undo()
        done = dg.DagsterEvent("PIPELINE_SUCCESS", run.job_name)
        instance.report_dagster_event(done, run.run_id)

    def then_ended(name):
        def look(*arguments, **options):
            found = read[name](*arguments, **options)
            end()
            return found

        return look

    for name in read:
        monkeypatch.setattr(instance, name, then_ended(name))
    return run


def status_of(deployment, run):
    return deployment.instance.get_run_by_id(run.run_id).status


def test_the_sweep_does_not_report_it_failed(deployment, looked_at):
    deployment.upload(CSV, run_id=looked_at.run_id)

    ended = sweep(deployment.instance, services=deployment.services)

    assert ended == []
    assert status_of(deployment, looked_at) is STATUS.SUCCESS
    assert waits(deployment) is None


def test_its_hold_is_that_of_a_run_that_is_over(deployment, looked_at):
    held = hold(deployment, looked_at.run_id)

    assert fate_of(deployment.instance, held) is RunFate.FINISHED


def test_it_is_not_counted_among_the_dead(deployment, looked_at):
    records = deployment.instance.get_run_records()

    assert _dead(deployment.instance, [record.dagster_run for record in records]) == []


def test_a_run_that_a_worker_signs_meanwhile_is_not_dead_for_its_launcher(
    deployment, monkeypatch, tmp_path
):
    instance = deployment.instance
    where = json.dumps({"host": "localhost", "socket": str(tmp_path / "gone.sock")})
    run = add_run(instance, status=STATUS.STARTING, **{".dagster/grpc_info": where})
    look = instance.get_runs

    def then_signed(**options):
        found = look(**options)
        instance.add_run_tags(run.run_id, {"assetgen/worker": worker_identity()})
        return found

    monkeypatch.setattr(instance, "get_runs", then_signed)

    done = recover(instance, services=deployment.services, launches_here=True)

    assert done.ended_runs == ()
    assert status_of(deployment, run) is STATUS.STARTING


def test_a_command_whose_process_was_killed_leaves_the_end_of_another_run_alone(
    deployment, looked_at
):
    deployment.upload(CSV, run_id=looked_at.run_id)
    state = BatchState.COMPLETED
    write_status(BATCH_ID, state, store=deployment.store, clock=deployment.clock)
    instance, services = deployment.instance, deployment.services
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(control, "open_instance", lambda _settings: nullcontext(instance))
        patched.setattr(control, "open_all", lambda _settings: nullcontext(services))

        assert control.end_killed(BATCH_ID, load_settings(), cancelled=True)

    assert status_of(deployment, looked_at) is STATUS.SUCCESS
    assert deployment.status().state is state
