"""What verbs ask of runs that exist: which there are, stop them; and is there a daemon for new ones.

Everything goes through the instance and the bucket, so that it works from another machine
too; only TERM, the last resort, needs the machine that a run works on.
"""

import logging
import threading
from datetime import UTC, datetime

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError

from assetgen_pipeline.defs.closing import end_dead_run, sweep
from assetgen_pipeline.defs.control import open_instance
from assetgen_pipeline.defs.runs import PARTITION_TAG, unfinished_runs
from assetgen_pipeline.defs.workers import WORKER_TAG, ask_to_end
from assetgen_pipeline.domain.health import LONGEST_WITHOUT_HEARTBEAT
from assetgen_pipeline.settings import Settings
from assetgen_pipeline.stages.services import Services
from assetgen_pipeline.wiring.stack_record import daemons_stopped_at

logger = logging.getLogger(__name__)

_TERM_S = 60.0
_LOOK_S = 0.5


def daemon_is_alive(settings: Settings) -> bool:
    """Whether a daemon looks after the sensors of this deployment now."""
    with open_instance(settings) as instance:
        heartbeat = instance.get_daemon_heartbeats().get("SENSOR")
    if heartbeat is None:
        return False
    beat, stopped = datetime.fromtimestamp(heartbeat.timestamp, UTC), daemons_stopped_at(settings)
    if stopped is not None and beat <= stopped:
        return False
    return datetime.now(UTC) - beat < LONGEST_WITHOUT_HEARTBEAT


def unfinished_run_ids(batch_id: str, settings: Settings) -> list[str]:
    """The batch's runs that are queued or may be working."""
    with open_instance(settings) as instance:
        runs = unfinished_runs(instance, batch_id, launches_here=settings.owns_dagster_home)
        return [run.run_id for run in runs]


def stop_runs(
    batch_id: str, settings: Settings, *, grace_s: float, services: Services
) -> list[str]:
    """End every run of a batch whose order to stop is written; the ids of those that live on.

    Queued runs leave the queue. Working ones end by themselves between two images; after
    `grace_s` they are terminated.
    """
    pause = threading.Event()
    with open_instance(settings) as instance:
        # An instance under HOME is this machine's alone, and so is its daemon.
        sweep(instance, services=services, launches_here=settings.owns_dagster_home)
        deadline = services.clock.monotonic() + grace_s
        told: set[str] = set()
        while live := unfinished_runs(instance, batch_id):
            late = services.clock.monotonic() >= deadline
            for run in live:
                _stop(instance, run, told=told, late=late)
            if services.clock.monotonic() >= deadline + _TERM_S:
                break
            pause.wait(_LOOK_S)
        _end_killed(instance, batch_id, services=services)
        return [run.run_id for run in unfinished_runs(instance, batch_id)]


def _stop(instance: dg.DagsterInstance, run: dg.DagsterRun, *, told: set[str], late: bool) -> None:
    if run.status is dg.DagsterRunStatus.QUEUED:
        instance.run_coordinator.cancel_run(run.run_id)
    elif run.status is dg.DagsterRunStatus.NOT_STARTED:
        instance.report_run_canceled(run)
    elif late and run.run_id not in told:
        told.add(run.run_id)
        terminate(instance, run)


def terminate(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Ask a run's process to end now; calls in flight stay booked as assumed."""
    worker = run.tags.get(WORKER_TAG)
    instance.report_run_canceling(run)
    if worker is not None and ask_to_end(worker):
        return
    try:
        instance.run_launcher.terminate(run.run_id)
    except DagsterUserCodeUnreachableError:
        logger.warning("the server that launched run %s does not answer", run.run_id)


def _end_killed(instance: dg.DagsterInstance, batch_id: str, *, services: Services) -> None:
    """Report the runs cancelled whose process ended without saying so."""
    canceling = dg.RunsFilter(
        tags={PARTITION_TAG: batch_id}, statuses=[dg.DagsterRunStatus.CANCELING]
    )
    living = {run.run_id for run in unfinished_runs(instance, batch_id)}
    for run in instance.get_runs(filters=canceling):
        if run.run_id not in living:
            end_dead_run(instance, run, services=services, cancelled=True)
