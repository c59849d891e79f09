"""What commands look up in Dagster without changing anything, and the repairs that are safe."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import dagster as dg

from assetgen_pipeline.defs.control import GENERATION_POOL, REFERENCE_POOL, prepare_home
from assetgen_pipeline.defs.heartbeat import TICKING
from assetgen_pipeline.defs.instance_health import drops_under_way, leaking_runs, measure_instance
from assetgen_pipeline.defs.runs import PARTITION_TAG
from assetgen_pipeline.domain.bucket_layout import is_batch_id
from assetgen_pipeline.domain.health import InstanceHealth
from assetgen_pipeline.settings import Settings

_MOST_EVENTS = 5_000
POOLS = (REFERENCE_POOL, GENERATION_POOL)


@contextmanager
def looking_at(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The instance as it is: no limit of a pool is set."""
    prepare_home(settings)
    with dg.DagsterInstance.get() as instance:
        yield instance


def instance_health(settings: Settings, *, now: datetime) -> InstanceHealth:
    """Daemons, sensors, pools and runs at this moment."""
    with looking_at(settings) as instance:
        return measure_instance(instance, now=now, pools=POOLS, ticking=TICKING)


def recent_batches(
    settings: Settings, *, now: datetime, within: timedelta, limit: int
) -> list[str]:
    """The batches whose runs changed within a time, the newest first."""
    with looking_at(settings) as instance:
        records = instance.get_run_records(
            filters=dg.RunsFilter(job_name="generate_batch", updated_after=now - within),
            limit=limit,
        )
    found = (record.dagster_run.tags.get(PARTITION_TAG, "") for record in records)
    return list(dict.fromkeys(batch for batch in found if is_batch_id(batch)))


def drops_in_runs(settings: Settings) -> set[tuple[str, int]]:
    """Name and generation of every drop that a run is queued or live for."""
    with looking_at(settings) as instance:
        return drops_under_way(instance)


def free_leaked_slots(settings: Settings) -> list[str]:
    """Free the slots of runs that are over; returns the runs' ids."""
    with looking_at(settings) as instance:
        leaking = [run_id for pool in POOLS for run_id in leaking_runs(instance, pool)]
        for run_id in dict.fromkeys(leaking):
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)
        return list(dict.fromkeys(leaking))


def pool_limits(settings: Settings) -> dict[str, int]:
    """The limit that each pool should have."""
    return {REFERENCE_POOL: 1, GENERATION_POOL: settings.generation_pool}


def missing_options(settings: Settings) -> list[str]:
    """Options of the instance without which dead runs keep their slots or never end."""
    with looking_at(settings) as instance:
        monitoring = instance.run_monitoring_settings
    wanted = ("free_slots_after_run_end_seconds", "max_runtime_seconds")
    missing = [f"run_monitoring.{name}" for name in wanted if not monitoring.get(name)]
    return missing if monitoring.get("enabled") else ["run_monitoring.enabled", *missing]


def has_runs(settings: Settings, batch_id: str) -> bool:
    """Whether Dagster knows a run of the batch."""
    with looking_at(settings) as instance:
        return bool(instance.get_runs(dg.RunsFilter(tags={PARTITION_TAG: batch_id}), limit=1))


def run_reports(settings: Settings, batch_id: str) -> dict[str, list[str]]:
    """The events of every run of a batch as lines, by run; the newest of a very long run."""
    with looking_at(settings) as instance:
        runs = instance.get_runs(filters=dg.RunsFilter(tags={PARTITION_TAG: batch_id}))
        return {run.run_id: _report(instance, run) for run in runs}


def _report(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    head = [f"run {run.run_id} {run.status.value} of {run.job_name}"]
    head += [f"tag {name}={value}" for name, value in sorted(run.tags.items())]
    entries = instance.all_logs(run.run_id)
    return head + [
        f"{entry.timestamp:.3f} {logging.getLevelName(entry.level)} {entry.step_key or '-'}"
        f" {entry.message}"
        for entry in entries[-_MOST_EVENTS:]
    ]
