"""Alerts out of Dagster: what runs, sensors and the heartbeat tell, and that telling is safe."""

import os
import signal
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._utils.error import SerializableErrorInfo

from assetgen_pipeline.defs.alert_sensors import deployment_alert_sensor, ledger_alert_sensor
from assetgen_pipeline.defs.heartbeat import NAME, TICKING, heartbeat
from assetgen_pipeline.defs.instance_health import measure_instance, tick_healths
from assetgen_pipeline.defs.sensors import cancelled_run_sensor, failed_run_sensor
from assetgen_pipeline.domain.alerts import AlertKind, alert_text
from assetgen_pipeline.domain.budget import InvariantCheck
from assetgen_pipeline.domain.errors import LedgerUnavailable, StorageUnavailable
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.stages.alerting import Alerting
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, NOW, a_csv
from assetgen_pipeline_tests.fake_deployment import FakeDeployment, add_run
from assetgen_pipeline_tests.sensor_bench import end_of_run

CSV = a_csv(["S1", "a kitchen"], ["S2", "a harbour"])
SCHEDULE = InstigatorType.SCHEDULE


def resources(deployment):
    return {
        "services": deployment.services,
        "deployment": deployment.deployment,
        "alerting": Alerting(notifier=deployment.notifier),
    }


def failed_context(deployment, result, sensor=failed_run_sensor, event=None):
    return end_of_run(sensor, result.run_id, deployment, event or result.get_run_failure_event())


@pytest.fixture
def refused(instance):
    """A deployment, and its run that failed because the provider refused the key."""
    bad_key = ProviderError("the key is refused", kind=ErrorKind.AUTH)
    deployment = FakeDeployment(instance, provider=ScriptedProvider(default=[bad_key]))
    deployment.upload(b"no,such\nheader,here\n")
    return deployment, deployment.run()


def test_a_failed_run_is_told_in_the_words_of_its_failed_step(refused):
    deployment, result = refused

    failed_run_sensor(failed_context(deployment, result).for_run_failure())

    [alert] = deployment.notifier.alerts
    assert alert.kind is AlertKind.RUN_FAILED
    assert "csv-header" in alert.what
    assert "Steps failed" not in alert.what
    assert (alert.batch_id, alert.owner, alert.run_id) == (BATCH_ID, "studio", result.run_id)
    assert f"Run  {result.run_id}" in alert_text(alert)


def test_a_cancelled_run_is_told(refused):
    deployment, result = refused
    event = result.all_events[-1]

    cancelled_run_sensor(failed_context(deployment, result, cancelled_run_sensor, event))

    assert [alert.kind for alert in deployment.notifier.alerts] == [AlertKind.RUN_CANCELLED]


def test_a_bug_is_told_with_the_step_that_has_it(deployment):
    deployment.upload(CSV)

    def broken(_provider, _model):
        raise RuntimeError("unexpected")

    deployment.choose(open_provider=broken)
    result = deployment.run()

    failed_run_sensor(failed_context(deployment, result).for_run_failure())

    [alert] = deployment.notifier.alerts
    assert "a bug of ours in generated_images" in alert.what
    assert "unexpected" in alert.what


def test_a_run_whose_process_was_interrupted_is_no_bug_and_goes_on_by_itself(instance):
    class Interrupted(ScriptedProvider):
        async def generate(self, *request):
            os.kill(os.getpid(), signal.SIGINT)
            return await super().generate(*request)

    deployment = FakeDeployment(instance, provider=Interrupted())
    deployment.upload(CSV)
    result = deployment.run()

    failed_run_sensor(failed_context(deployment, result).for_run_failure())

    [alert] = deployment.notifier.alerts
    assert "its process was told to end in generated_images" in alert.what
    assert deployment.status().resumes


def test_a_notifier_that_fails_leaves_the_sensor_and_the_batch_alone(refused):
    deployment, result = refused
    deployment.notifier.failing = True

    failed_run_sensor(failed_context(deployment, result).for_run_failure())

    assert deployment.status().finished_at is not None


class AwayStore(InMemoryObjectStore):
    """A bucket that goes away."""

    away = False

    def read(self, name, *, generation=None):
        if self.away:
            raise StorageUnavailable("no answer")
        return super().read(name, generation=generation)


def test_a_batch_that_cannot_be_closed_is_told_all_the_same(instance):
    deployment = FakeDeployment(instance, store=AwayStore(BUCKET, clock=ManualClock(NOW)))
    deployment.upload(b"no,such\nheader,here\n")
    result = deployment.run()
    deployment.store.away = True

    with pytest.raises(StorageUnavailable):
        failed_run_sensor(failed_context(deployment, result).for_run_failure())

    [alert] = deployment.notifier.alerts
    assert "could not be closed: storage-unavailable" in alert.what


def look(deployment, sensor, cursor=None):
    wanted = resources(deployment)
    if sensor is ledger_alert_sensor:
        del wanted["deployment"]
    with dg.build_sensor_context(
        instance=deployment.instance, cursor=cursor, resources=wanted
    ) as context:
        return sensor(context).skip_message, context.cursor


async def test_a_late_drop_is_told_once_until_it_is_taken(deployment):
    deployment.drop("inbox/studio/a.csv")
    await deployment.clock.sleep(1_200)

    _said, cursor = look(deployment, deployment_alert_sensor)
    _said, cursor = look(deployment, deployment_alert_sensor, cursor)
    assert [alert.kind for alert in deployment.notifier.alerts] == [AlertKind.INBOX_LAG]

    deployment.store.delete("inbox/studio/a.csv")
    said, cursor = look(deployment, deployment_alert_sensor, cursor)
    assert said == "all is well"
    deployment.drop("inbox/studio/b.csv")
    await deployment.clock.sleep(1_200)
    look(deployment, deployment_alert_sensor, cursor)
    assert len(deployment.notifier.alerts) == 2


async def test_a_drop_with_a_queued_run_is_not_late_and_one_with_a_dead_run_is(deployment, gone):
    info = deployment.drop("inbox/studio/a.csv")
    tags = {
        "assetgen__inbox_object": info.name,
        "assetgen__inbox_generation": str(info.generation),
    }
    add_run(deployment.instance, status=dg.DagsterRunStatus.STARTED, **tags)
    await deployment.clock.sleep(1_200)

    assert look(deployment, deployment_alert_sensor)[0] == "all is well"

    [run] = deployment.instance.get_runs()
    deployment.instance.add_run_tags(run.run_id, {"assetgen/worker": gone})
    assert "wait in the inbox" in look(deployment, deployment_alert_sensor)[0]


def test_a_queue_that_nobody_works_off_is_told(deployment):
    add_run(deployment.instance, status=dg.DagsterRunStatus.NOT_STARTED)
    deployment.clock.set(datetime.now(UTC) + timedelta(hours=1))

    look(deployment, deployment_alert_sensor)

    [alert] = deployment.notifier.alerts
    assert alert.kind is AlertKind.QUEUE_STUCK


def test_a_ledger_that_is_away_is_told_and_the_inbox_is_looked_at_all_the_same(
    deployment, monkeypatch
):
    def away():
        raise LedgerUnavailable("no answer")

    monkeypatch.setattr(deployment.ledger, "open_holds", away)
    deployment.drop("inbox/studio/a.csv")
    deployment.clock.advance(timedelta(hours=1))

    look(deployment, deployment_alert_sensor)

    assert {alert.kind for alert in deployment.notifier.alerts} == {
        AlertKind.CHECK_FAILED,
        AlertKind.INBOX_LAG,
    }


def test_a_broken_invariant_is_told_again_when_another_breaks(deployment, monkeypatch):
    broken = []
    monkeypatch.setattr(deployment.ledger, "verify", lambda: broken)
    assert look(deployment, ledger_alert_sensor)[0] == "all is well"

    broken.append(InvariantCheck(name="I1", sentence="", violations=("x",)))
    _said, cursor = look(deployment, ledger_alert_sensor)
    _said, cursor = look(deployment, ledger_alert_sensor, cursor)
    broken.append(InvariantCheck(name="I2", sentence="", violations=("x",)))
    look(deployment, ledger_alert_sensor, cursor)

    assert [alert.state for alert in deployment.notifier.alerts] == ["I1", "I1,I2"]


def tick_of(instance, name, *, at, status=TickStatus.SKIPPED, kind=InstigatorType.SENSOR, error=""):
    """A tick as the daemon leaves it."""
    origin = RemoteInstigatorOrigin(
        repository_origin=RemoteRepositoryOrigin(
            InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="m")), "r"
        ),
        instigator_name=name,
    )
    state = InstigatorState(
        origin,
        kind,
        InstigatorStatus.DECLARED_IN_CODE,
        SensorInstigatorData(min_interval=5)
        if kind is InstigatorType.SENSOR
        else ScheduleInstigatorData("* * * * *", None),
    )
    if not any(known.name == name for known in instance.all_instigator_state()):
        instance.add_instigator_state(state)
    instance.create_tick(
        TickData(
            instigator_origin_id=origin.get_id(),
            instigator_name=name,
            instigator_type=kind,
            status=status,
            timestamp=at.timestamp(),
            selector_id=state.selector_id,
            error=SerializableErrorInfo(error, [], "Error") if error else None,
        )
    )


def beat(deployment, now=NOW):
    context = dg.build_schedule_context(
        instance=deployment.instance,
        scheduled_execution_time=now,
        resources={"alerting": Alerting(notifier=deployment.notifier)},
    )
    # The turn itself is written down before it is taken.
    tick_of(deployment.instance, NAME, at=now, status=TickStatus.STARTED, kind=SCHEDULE)
    return heartbeat(context).skip_message


def woken(instance, *, at, turns=1):
    """The turns of the heartbeat, one a minute, up to a moment before `at`."""
    for turn in range(turns):
        tick_of(instance, NAME, at=at - timedelta(minutes=turn, seconds=30), kind=SCHEDULE)


@pytest.fixture
def local_instance(tmp_path):
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def ticking(local_instance):
    """A deployment that has been up for ten minutes, whose sensors all ticked a moment ago."""
    woken(local_instance, at=NOW, turns=10)
    for name in set(TICKING) - {NAME}:
        tick_of(local_instance, name, at=NOW - timedelta(seconds=30))
    return FakeDeployment(local_instance)


def test_sensors_that_tick_are_no_news(ticking):
    assert beat(ticking) == "every sensor ticks"
    assert ticking.notifier.alerts == []


def test_a_dead_inbox_sensor_is_told_once_and_again_after_it_came_back(ticking):
    later = NOW + timedelta(minutes=10)
    woken(ticking.instance, at=later, turns=10)
    for name in set(TICKING) - {NAME}:
        if name == "inbox_sensor":
            tick_of(ticking.instance, name, at=later, status=TickStatus.FAILURE, error="no bucket")
        else:
            tick_of(ticking.instance, name, at=later)

    said = [beat(ticking, later), beat(ticking, later)]

    assert said == ["inbox_sensor", "inbox_sensor"]
    [alert] = ticking.notifier.alerts
    assert alert.what == "the sensor inbox_sensor last ticked 630 s ago: no bucket"
    tick_of(ticking.instance, "inbox_sensor", at=later)
    assert beat(ticking, later) == "every sensor ticks"


def test_why_a_tick_failed_is_told_without_the_secrets_in_it(ticking):
    error = "GET https://h/o?X-Goog-Signature=KANARIE with key AIzaKANARIE0123456789"
    tick_of(ticking.instance, "inbox_sensor", at=NOW, status=TickStatus.FAILURE, error=error)

    [health] = tick_healths(ticking.instance, {"inbox_sensor": 5.0}, now=NOW)

    assert health.error.startswith("GET https://h/o?")
    assert "KANARIE" not in health.error


def test_a_heartbeat_that_slept_itself_gives_the_sensors_time_to_wake(ticking):
    later = NOW + timedelta(days=2)
    assert "just woken" in beat(ticking, later)
    assert "just woken" in beat(ticking, later + timedelta(minutes=5))
    assert ticking.notifier.alerts == []


def test_a_sensor_that_never_ticked_has_five_minutes_also_after_a_restart(local_instance):
    deployment = FakeDeployment(local_instance)
    for name in set(TICKING) - {NAME, "deployment_alert_sensor"}:
        tick_of(local_instance, name, at=NOW)

    said = [beat(deployment, NOW + timedelta(minutes=minute)) for minute in range(7)]

    assert ["just woken" in one for one in said] == [True] * 6 + [False]
    [alert] = [a for a in deployment.notifier.alerts if a.about == "deployment_alert_sensor"]
    assert alert.what == "the sensor deployment_alert_sensor never ticked"


def test_a_sensor_that_was_switched_on_a_moment_ago_is_not_dead(ticking):
    moment = (NOW - timedelta(seconds=5)).timestamp()
    state = next(s for s in ticking.instance.all_instigator_state() if s.name == "inbox_sensor")
    ticking.instance.update_instigator_state(
        state.with_data(SensorInstigatorData(last_sensor_start_timestamp=moment))
    )
    later = NOW + timedelta(minutes=5)
    woken(ticking.instance, at=later, turns=10)

    health = {h.name: h for h in tick_healths(ticking.instance, TICKING, now=later)}

    assert (health["inbox_sensor"].age_s, health["inbox_sensor"].dead) == (330, True)
    assert health["inbox_sensor"].watched_s == 305
    soon = tick_healths(ticking.instance, TICKING, now=later - timedelta(seconds=20))
    assert not next(h for h in soon if h.name == "inbox_sensor").dead


def test_an_instance_is_measured_in_every_part(local_instance, gone):
    tick_of(local_instance, "inbox_sensor", at=NOW)
    dead = add_run(
        local_instance,
        status=dg.DagsterRunStatus.STARTED,
        assetgen__worker=gone,
    )
    over = add_run(local_instance, status=dg.DagsterRunStatus.FAILURE)
    add_run(local_instance, status=dg.DagsterRunStatus.NOT_STARTED)
    storage = local_instance.event_log_storage
    storage.set_concurrency_slots("generation", 2)
    storage.claim_concurrency_slot("generation", over.run_id, "step")

    health = measure_instance(
        local_instance,
        now=datetime.now(UTC) + timedelta(hours=1),
        pools=["generation"],
        ticking={"inbox_sensor": 5.0, "never_seen": 5.0},
    )

    assert health.dead_runs == (dead.run_id,)
    assert health.runs == {"started": 1, "not_started": 1}
    assert 3600 <= health.queue_oldest_s < 4000
    [pool] = health.pools
    assert (pool.limit, pool.used, pool.leaked) == (2, 1, 1)
    assert {tick.name: tick.age_s is None for tick in health.ticks} == {
        "inbox_sensor": False,
        "never_seen": True,
    }
    assert {daemon.name for daemon in health.daemons} >= {"SENSOR"}
    assert not any(daemon.alive for daemon in health.daemons)
