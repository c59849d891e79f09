"""What commands ask of Dagster, in domain terms: execute, sweep, set pools.

Works on the instance of `DAGSTER_HOME`, so from any machine that shares its storage.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import dagster as dg

from assetgen_pipeline.defs.assets import owner_tags
from assetgen_pipeline.defs.build import build_definitions
from assetgen_pipeline.defs.closing import WORKING, close_run, death, end_dead_run
from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.defs.recovery import Recovery, check_holds, recover
from assetgen_pipeline.defs.run_failure import why_failed
from assetgen_pipeline.defs.runs import (
    PARTITION_TAG,
    dead_run,
    may_be_working,
    unfinished_runs,
)
from assetgen_pipeline.defs.slot_queue import execute_here
from assetgen_pipeline.defs.workers import WORKER_TAG, worker_identity
from assetgen_pipeline.domain.budget import Hold, InvariantCheck
from assetgen_pipeline.domain.errors import AssetgenError
from assetgen_pipeline.domain.status import is_terminal
from assetgen_pipeline.settings import Settings, adopt_dagster_home
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.stages.close_batch import close_batch
from assetgen_pipeline.wiring.services import open_all

_ROOT_FILE = Path(__file__).parents[2] / "dagster.yaml"
_PACKAGED_FILE = Path(__file__).parents[1] / "data" / "dagster.yaml"
REFERENCE_POOL = "reference_fetch"
GENERATION_POOL = "generation"


def prepare_home(settings: Settings) -> None:
    """Make this process use the instance of `DAGSTER_HOME`, ours with our `dagster.yaml`."""
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    source = _ROOT_FILE if _ROOT_FILE.exists() else _PACKAGED_FILE
    target = settings.dagster_home / "dagster.yaml"
    if settings.owns_dagster_home and not (
        target.exists() and target.read_bytes() == source.read_bytes()
    ):
        # Whole at once: other commands that start now read it.
        partial = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.copyfile(source, partial)
        partial.replace(target)
    adopt_dagster_home(settings)


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The instance of this deployment, with the limits of its pools set."""
    prepare_home(settings)
    with dg.DagsterInstance.get() as instance:
        storage = instance.event_log_storage
        storage.set_concurrency_slots(REFERENCE_POOL, 1)
        storage.set_concurrency_slots(GENERATION_POOL, settings.generation_pool)
        yield instance


def execute_batch(batch_id: str, settings: Settings) -> bool:
    """Run a batch's assets in this process; whether the run succeeded.

    Dead runs are swept first, and a failed run's batch is closed before this returns.
    """
    job = build_definitions(settings).resolve_job_def("generate_batch")
    with open_instance(settings) as instance:
        with open_all(settings) as services:
            recover(instance, services=services, launches_here=settings.owns_dagster_home)
        instance.add_dynamic_partitions(batches.name or "", [batch_id])
        result = execute_here(
            job,
            batch_id,
            instance=instance,
            # Signed from the start: nobody else knows of this process.
            tags={**owner_tags(batch_id), WORKER_TAG: worker_identity()},
        )
        if not result.success:
            run = instance.get_run_by_id(result.run_id)
            if run is None:
                raise AssertionError("unreachable")
            with open_all(settings) as services:
                close_run(instance, run, _why_ended(instance, run, result), services=services)
    return result.success


def _why_ended(
    instance: dg.DagsterInstance, run: dg.DagsterRun, result: dg.ExecuteInProcessResult
) -> AssetgenError:
    """What ended a failed run: TERM from the command that watches it, or a step."""
    if run.status is dg.DagsterRunStatus.CANCELED:
        return death(cancelled=True)
    for event in result.all_events:
        if event.is_run_failure:
            reason = event.job_failure_data.failure_reason
            if reason is not None and reason.name == "UNEXPECTED_TERMINATION":
                return death(cancelled=True)
    return why_failed(instance, run.run_id)


def end_killed(batch_id: str, settings: Settings, *, cancelled: bool) -> bool:
    """End a batch whose process was killed; as cancelled where its operator stopped it.

    Returns `False` where another run works on it, which is left alone.
    """
    with open_instance(settings) as instance, open_all(settings) as services:
        filters = dg.RunsFilter(tags={PARTITION_TAG: batch_id})
        for run in instance.get_runs(filters=filters):
            dead = dead_run(instance, run) if not run.is_finished else None
            if dead is not None:
                end_dead_run(instance, dead, services=services, cancelled=cancelled, finish=False)
        if unfinished_runs(instance, batch_id):
            return False
        # Where the process died before Dagster knew of a run, nobody has closed the batch.
        if not is_terminal(read_status(batch_id, store=services.store).state):
            close_batch(batch_id, death(cancelled=cancelled), run_id="", services=services)
        return True


def mark_cancelling(batch_id: str, settings: Settings) -> None:
    """Tell Dagster that the batch's runs are being cancelled, before their process is told."""
    with open_instance(settings) as instance:
        for run in unfinished_runs(instance, batch_id):
            instance.report_run_canceling(run)


def sweep_dead_runs(settings: Settings, *, launches_here: bool = False) -> list[str]:
    """End every run whose process is gone, and its holds; returns the runs' ids.

    `launches_here`: the daemon that launches runs is, or was, on this machine.
    """
    return list(recover_dead(settings, launches_here=launches_here).ended_runs)


def recover_dead(
    settings: Settings, *, also_unknown: bool = False, launches_here: bool = False
) -> Recovery:
    """End dead runs and expire the holds that dead runs left."""
    with open_instance(settings) as instance, open_all(settings) as services:
        return recover(
            instance,
            services=services,
            also_unknown=also_unknown,
            # An instance under HOME is this machine's alone, and so is its daemon.
            launches_here=launches_here or settings.owns_dagster_home,
        )


def check_open_holds(settings: Settings, holds: Sequence[Hold], now: datetime) -> InvariantCheck:
    """Invariant I10 for these holds."""
    with open_instance(settings) as instance:
        return check_holds(instance, holds, now=now)


def live_runs(settings: Settings) -> list[str]:
    """The runs that may be working."""
    with open_instance(settings) as instance:
        runs = instance.get_runs(filters=dg.RunsFilter(statuses=WORKING))
        return [run.run_id for run in runs if may_be_working(run)]


def daemons_beating(settings: Settings, *, since: datetime) -> dict[str, bool]:
    """Whether each required daemon had a heartbeat since then, which a former one had not."""
    with open_instance(settings) as instance:
        beats = instance.get_daemon_heartbeats()
        return {
            name: name in beats and beats[name].timestamp >= since.timestamp()
            for name in instance.get_required_daemon_types()
        }


def pool_slots(settings: Settings) -> dict[str, tuple[int, int]]:
    """Each pool's slots: the limit, and how many are taken."""
    with open_instance(settings) as instance:
        storage = instance.event_log_storage
        infos = {
            name: storage.get_concurrency_info(name) for name in (REFERENCE_POOL, GENERATION_POOL)
        }
        return {name: (info.slot_count, info.active_slot_count) for name, info in infos.items()}
