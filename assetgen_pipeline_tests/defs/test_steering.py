"""What verbs ask of runs that exist, on a real instance, ledger and local bucket of one HOME."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat

from assetgen_pipeline.defs import control, steering
from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.batch_status import read_status, write_status
from assetgen_pipeline.stages.orders import order_cancel
from assetgen_pipeline.wiring.services import open_all
from assetgen_pipeline_tests.builders import a_csv
from assetgen_pipeline_tests.fake_deployment import add_run

ROOT = Path(__file__).parents[2]
STARTED = dg.DagsterRunStatus.STARTED


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def settings(home, monkeypatch):
    monkeypatch.setenv("ASSETGEN_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    return load_settings()


@pytest.fixture
def services(settings):
    with open_all(settings) as opened:
        yield opened


@pytest.fixture
def child():
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.stdin.close()
    process.wait()


def a_batch(services, batch_id):
    services.store.write(
        BatchFolder(batch_id).request, a_csv(["S1", "a kitchen"]), content_type="text/csv"
    )
    write_status(batch_id, BatchState.RUNNING, store=services.store, clock=services.clock)
    order_cancel(batch_id, by="ann", store=services.store, clock=services.clock)


def a_run(settings, batch_id, status, **tags):
    with control.open_instance(settings) as instance:
        return add_run(instance, status=status, batch_id=batch_id, **tags).run_id


def status_of(settings, run_id):
    with control.open_instance(settings) as instance:
        return instance.get_run_by_id(run_id).status


def test_without_a_heartbeat_and_with_an_old_one_no_daemon_is_alive(settings):
    before = steering.daemon_is_alive(settings)
    answers = []
    for age_s in (3600, 0):
        beat = DaemonHeartbeat(time.time() - age_s, "SENSOR", "d")
        with control.open_instance(settings) as instance:
            instance.add_daemon_heartbeat(beat)
        answers.append(steering.daemon_is_alive(settings))

    assert (before, answers) == (False, [False, True])


@pytest.mark.parametrize(
    ("beat_s", "record", "alive"),
    [(-5, "", False), (5, "", True), (-5, "4711", True), (-5, None, True)],
)
def test_a_daemon_that_was_stopped_is_not_alive_until_one_beats_again(
    home, settings, beat_s, record, alive
):
    stopped = time.time() - 10
    lock = home / "up.lock"
    lock.unlink(missing_ok=True)
    if record is not None:
        lock.write_text(record, encoding="ascii")
        os.utime(lock, (stopped, stopped))
    with control.open_instance(settings) as instance:
        instance.add_daemon_heartbeat(DaemonHeartbeat(stopped + beat_s, "SENSOR", "d"))

    assert steering.daemon_is_alive(settings) is alive


def test_the_daemons_of_an_instance_elsewhere_are_judged_by_their_heartbeats(
    home, settings, tmp_path, monkeypatch
):
    (home / "up.lock").write_text("", encoding="ascii")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    shutil.copyfile(ROOT / "dagster.yaml", tmp_path / "dagster.yaml")
    elsewhere = load_settings()
    with control.open_instance(elsewhere) as instance:
        instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - 20, "SENSOR", "d"))

    assert steering.daemon_is_alive(elsewhere)


def test_a_run_that_was_never_started_is_cancelled_on_the_spot(settings, services):
    batch_id = "ada.new.00000001"
    a_batch(services, batch_id)
    run_id = a_run(settings, batch_id, dg.DagsterRunStatus.NOT_STARTED)

    live = steering.stop_runs(batch_id, settings, grace_s=600, services=services)

    assert live == []
    assert status_of(settings, run_id) is dg.DagsterRunStatus.CANCELED


def test_a_run_that_does_not_obey_in_time_is_told_by_the_kernel(settings, services, child):
    batch_id = "ada.deaf.00000002"
    a_batch(services, batch_id)
    worker = worker_identity(child.pid)
    run_id = a_run(settings, batch_id, STARTED, assetgen__worker=worker)
    assert steering.unfinished_run_ids(batch_id, settings) == [run_id]

    live = steering.stop_runs(batch_id, settings, grace_s=0, services=services)

    assert live == []
    assert child.wait() != 0
    assert status_of(settings, run_id) is dg.DagsterRunStatus.CANCELED
    assert read_status(batch_id, store=services.store).state is BatchState.CANCELLED


def test_a_dead_run_is_not_waited_for(settings, services, gone):
    batch_id = "ada.dead.00000003"
    a_batch(services, batch_id)
    run_id = a_run(settings, batch_id, STARTED, assetgen__worker=gone)

    live = steering.stop_runs(batch_id, settings, grace_s=600, services=services)

    assert live == []
    assert status_of(settings, run_id) is dg.DagsterRunStatus.CANCELED


def test_a_run_on_another_machine_that_does_not_obey_is_named(settings, services, monkeypatch):
    monkeypatch.setattr(steering, "_TERM_S", 0.0)
    batch_id = "ada.far.00000004"
    a_batch(services, batch_id)
    run_id = a_run(settings, batch_id, STARTED, assetgen__worker="elsewhere/b/1/1")

    live = steering.stop_runs(batch_id, settings, grace_s=0, services=services)

    assert live == [run_id]
    assert status_of(settings, run_id) is dg.DagsterRunStatus.CANCELING
