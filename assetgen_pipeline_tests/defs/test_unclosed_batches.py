"""Batches whose run is over, and that could not be closed then: bucket or ledger was away."""

from dataclasses import replace

import dagster as dg
import pytest

from assetgen_pipeline.defs.recovery import recover
from assetgen_pipeline.defs.run_sensors import cancelled_run_sensor, failed_run_sensor
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import LedgerUnavailable, StorageUnavailable
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.waiting_batches import read_waiting
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.faults import Faults
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, NOW, a_csv
from assetgen_pipeline_tests.fake_deployment import FakeDeployment, add_run, hold
from assetgen_pipeline_tests.sensor_bench import end_of_run

CSV = a_csv(["S1", "a kitchen"], ["S2", "a harbour"])


class Bucket(InMemoryObjectStore):
    """A bucket that can be away."""

    away = False

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name in {"stat", "read", "write", "create", "delete", "list"} and self.away:
            return self._refuse
        return found

    def _refuse(self, *_args, **_options):
        raise StorageUnavailable("the bucket cannot be reached")


class GoesAway(ScriptedProvider):
    """Answers, and then the bucket is away."""

    def __init__(self, bucket):
        super().__init__()
        self.bucket = bucket

    async def generate(self, image, references, token):
        answer = await super().generate(image, references, token)
        self.bucket.away = len(self.requests) == 2
        return answer


@pytest.fixture
def fakes(instance):
    bucket = Bucket(BUCKET, clock=ManualClock(NOW))
    fakes = FakeDeployment(
        instance, store=bucket, provider=GoesAway(bucket), generation_concurrency=1
    )
    fakes.upload(CSV)
    return fakes


def sensor_fails(sensor, run, fakes, event):
    """The sensor's one look at a run's end; Dagster does not show it that run again."""
    context = end_of_run(sensor, run.run_id, fakes, event)
    with pytest.raises(StorageUnavailable):
        sensor(context.for_run_failure() if sensor is failed_run_sensor else context)


def recover_in_vain(fakes):
    with pytest.raises(StorageUnavailable):
        recover(fakes.instance, services=fakes.services)


@pytest.mark.parametrize("looks", [0, 1, 2])
def test_a_failed_run_whose_bucket_was_away_is_closed_once_it_is_back(fakes, looks):
    result = fakes.run()
    sensor_fails(failed_run_sensor, result, fakes, result.get_run_failure_event())
    for _ in range(looks):
        recover_in_vain(fakes)
    fakes.store.away = False

    recover(fakes.instance, services=fakes.services)

    status = fakes.status()
    assert status.state is BatchState.FAILED
    assert (status.images.delivered, status.images.failed) == (1, 1)
    assert fakes.has(BatchFolder(BATCH_ID).results)
    assert fakes.ledger.open_holds() == []
    # ... and finished without anybody asking.
    assert status.resumes
    assert read_waiting(BATCH_ID, store=fakes.store).cause == "run"


def test_a_failed_run_that_held_no_money_yet_is_closed_once_the_bucket_is_back(fakes):
    run = add_run(fakes.instance, status=dg.DagsterRunStatus.FAILURE)
    event = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.RUN_FAILURE.value, job_name=run.job_name
    )
    fakes.store.away = True
    sensor_fails(failed_run_sensor, run, fakes, event)
    fakes.store.away = False

    recover(fakes.instance, services=fakes.services)

    assert fakes.status().state is BatchState.FAILED


def test_a_cancelled_run_whose_bucket_was_away_is_closed_as_cancelled(fakes):
    result = fakes.run()
    fakes.instance.report_run_canceled(fakes.instance.get_run_by_id(result.run_id))
    sensor_fails(cancelled_run_sensor, result, fakes, result.all_events[-1])
    recover_in_vain(fakes)
    fakes.store.away = False

    recover(fakes.instance, services=fakes.services)

    assert fakes.status().state is BatchState.CANCELLED
    assert fakes.has(BatchFolder(BATCH_ID).results)


def test_a_batch_that_was_finished_meanwhile_stays_as_it_is(fakes):
    result = fakes.run()
    sensor_fails(failed_run_sensor, result, fakes, result.get_run_failure_event())
    recover_in_vain(fakes)
    fakes.store.away = False
    fakes.run()
    finished = fakes.status()

    recover(fakes.instance, services=fakes.services)

    assert finished.state is BatchState.COMPLETED
    assert fakes.status() == finished
    assert read_waiting(BATCH_ID, store=fakes.store) is None


def test_a_batch_once_closed_is_not_looked_at_again(fakes):
    result = fakes.run()
    sensor_fails(failed_run_sensor, result, fakes, result.get_run_failure_event())
    fakes.store.away = False
    recover(fakes.instance, services=fakes.services)
    fakes.store.calls.clear()

    recover(fakes.instance, services=fakes.services)

    assert fakes.store.calls == []


def test_a_batch_whose_hold_went_just_before_the_ledger_did_is_closed_all_the_same(deployment):
    deployment.upload(CSV)
    run = add_run(deployment.instance, status=dg.DagsterRunStatus.FAILURE)
    hold(deployment, run.run_id)
    went = LedgerUnavailable("it went away")
    faults = Faults(strike_at=1, only="ledger.expire_all took effect", error=went)
    gone = replace(deployment.services, ledger=faults.wrap("ledger", deployment.ledger))
    with pytest.raises(LedgerUnavailable):
        recover(deployment.instance, services=gone)
    held = deployment.ledger.open_holds()

    recover(deployment.instance, services=deployment.services)

    assert held == []
    assert deployment.status().state is BatchState.FAILED
