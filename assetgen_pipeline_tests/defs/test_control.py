"""What commands ask of Dagster, on a real instance, ledger and local bucket of one HOME."""

import json
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat

from assetgen_pipeline.defs import control
from assetgen_pipeline.defs.workers import WORKER_TAG, worker_identity
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.batch_status import read_status, write_status
from assetgen_pipeline.stages.parse_batch import claim_metadata
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.clock import open_clock
from assetgen_pipeline_tests.builders import a_csv
from assetgen_pipeline_tests.fake_deployment import add_run

CSV = a_csv(["S1", "a kitchen"], ["S2", "a harbour"])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def settings(home, monkeypatch):
    monkeypatch.setenv("ASSETGEN_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    return load_settings()


def upload(settings, batch_id, csv=CSV):
    with open_object_store(settings) as store:
        clock = open_clock()
        store.create(
            BatchFolder(batch_id).request,
            csv,
            content_type="text/csv",
            metadata=claim_metadata(run_id="", dry_run=False, clock=clock),
        )
        write_status(batch_id, BatchState.RECEIVED, store=store, clock=clock)


def status_of(settings, batch_id):
    with open_object_store(settings) as store:
        return read_status(batch_id, store=store)


def test_a_batch_executes_end_to_end_and_its_run_is_signed_by_this_process(settings):
    batch_id = "ada.good.00000001"
    upload(settings, batch_id)

    assert control.execute_batch(batch_id, settings)

    status = status_of(settings, batch_id)
    assert (status.state, status.images.delivered) == (BatchState.COMPLETED, 2)
    with control.open_instance(settings) as instance:
        run = instance.get_run_by_id(status.run_id)
        assert run.tags[WORKER_TAG] == worker_identity()
        assert run.tags["assetgen/owner"] == "ada"
    assert control.pool_slots(settings) == {"reference_fetch": (1, 0), "generation": (2, 0)}


def test_a_batch_that_fails_is_closed_before_execution_returns(settings):
    batch_id = "ada.bad.00000002"
    upload(settings, batch_id, b"scene_id,prompt\nS1,\n")

    assert not control.execute_batch(batch_id, settings)

    assert status_of(settings, batch_id).state is BatchState.REJECTED


def test_a_dead_run_gives_its_pool_slot_back_and_its_batch_is_closed(settings, gone):
    batch_id = "ada.dead.00000003"
    upload(settings, batch_id)
    with control.open_instance(settings) as instance:
        run = add_run(
            instance,
            status=dg.DagsterRunStatus.STARTED,
            batch_id=batch_id,
            assetgen__worker=gone,
        )
        instance.event_log_storage.claim_concurrency_slot("generation", run.run_id, "a_step")
    assert control.pool_slots(settings)["generation"] == (2, 1)

    assert control.sweep_dead_runs(settings) == [run.run_id]

    assert control.pool_slots(settings)["generation"] == (2, 0)
    assert status_of(settings, batch_id).state is BatchState.FAILED


def test_a_live_run_keeps_its_pool_slot_and_its_batch(settings):
    batch_id = "ada.live.00000004"
    upload(settings, batch_id)
    with control.open_instance(settings) as instance:
        run = add_run(
            instance,
            status=dg.DagsterRunStatus.STARTED,
            batch_id=batch_id,
            assetgen__worker=worker_identity(),
        )
        storage = instance.event_log_storage
        storage.claim_concurrency_slot("generation", run.run_id, "a_step")

        assert control.sweep_dead_runs(settings) == []

        assert control.pool_slots(settings)["generation"] == (2, 1)
        assert status_of(settings, batch_id).state is BatchState.RECEIVED
        storage.free_concurrency_slots_for_run(run.run_id)
        instance.report_run_canceled(run)


def test_a_batch_whose_process_died_before_any_run_is_closed_too(settings):
    batch_id = "ada.early.00000005"
    upload(settings, batch_id)

    control.end_killed(batch_id, settings, cancelled=False)

    status = status_of(settings, batch_id)
    assert status.state is BatchState.FAILED
    assert "killed" in status.problem["detail"] or status.problem["detail"]


def test_a_batch_that_its_operator_stopped_ends_cancelled(settings):
    batch_id = "ada.stopped.00000006"
    upload(settings, batch_id)

    control.end_killed(batch_id, settings, cancelled=True)

    assert status_of(settings, batch_id).state is BatchState.CANCELLED
    with open_object_store(settings) as store:
        problem = json.loads(store.read(BatchFolder(batch_id).problem))
    assert problem["type"] == "urn:assetgen:problem:cancelled"


def test_the_generation_pool_follows_its_setting(settings, monkeypatch):
    monkeypatch.setenv("ASSETGEN_GENERATION_POOL", "5")

    assert control.pool_slots(load_settings())["generation"] == (5, 0)


def test_an_instance_file_of_another_release_is_replaced_by_ours(settings):
    control.prepare_home(settings)
    target = settings.dagster_home / "dagster.yaml"
    ours = target.read_bytes()
    target.write_text("telemetry: {enabled: true}\n", encoding="utf-8")

    with target.open("rb") as reader:
        control.prepare_home(settings)

        # Who began to read it before reads a whole file too.
        assert reader.read() == b"telemetry: {enabled: true}\n"
    assert target.read_bytes() == ours
    assert list(settings.dagster_home.glob("dagster.yaml*")) == [target]


def test_a_stack_is_not_ready_on_the_heartbeats_of_the_one_before(settings):
    now = datetime.now(UTC)
    never = control.daemons_beating(settings, since=now)
    answers = []
    for moment in (now - timedelta(seconds=1), now):
        with control.open_instance(settings) as instance:
            for name in never:
                beat = DaemonHeartbeat(moment.timestamp(), name, "d")
                instance.add_daemon_heartbeat(beat)
        answers.append(control.daemons_beating(settings, since=now))

    assert "SENSOR" in never
    assert [any(never.values()), *(any(answer.values()) for answer in answers)] == [
        *(False, False, True)
    ]
    assert all(answers[-1].values())


def test_an_instance_of_the_operators_own_keeps_its_file(home, tmp_path, monkeypatch):
    monkeypatch.setenv("ASSETGEN_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    theirs = tmp_path / "dagster.yaml"
    theirs.write_text("telemetry: {enabled: false}\n", encoding="utf-8")

    control.prepare_home(load_settings())

    assert theirs.read_text(encoding="utf-8") == "telemetry: {enabled: false}\n"
