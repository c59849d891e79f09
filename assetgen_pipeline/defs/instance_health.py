"""Measure the Dagster instance: from its storage alone, so also while its daemons are dead."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import (
    InstigatorState,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickStatus,
)

from assetgen_pipeline.defs.runs import PARTITION_TAG, dead_run, named_drop
from assetgen_pipeline.defs.workers import WORKER_TAG, is_gone
from assetgen_pipeline.domain.alerts import Alert, AlertKind
from assetgen_pipeline.domain.bucket_layout import is_batch_id
from assetgen_pipeline.domain.health import (
    DaemonHealth,
    InstanceHealth,
    PoolHealth,
    TickHealth,
    unbroken_s,
)
from assetgen_pipeline.domain.redaction import redact

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_WAITING = {dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED}
_MOST_TURNS = 200
_FINISHED_TICKS = [TickStatus.SUCCESS, TickStatus.SKIPPED, TickStatus.FAILURE]


def measure_instance(
    instance: dg.DagsterInstance,
    *,
    now: datetime,
    pools: Sequence[str],
    ticking: Mapping[str, float],
) -> InstanceHealth:
    """How the instance is now; `ticking` holds the seconds between two ticks of each sensor."""
    records = instance.get_run_records(filters=dg.RunsFilter(statuses=UNFINISHED))
    waiting = [
        (now - record.create_timestamp).total_seconds()
        for record in records
        if record.dagster_run.status in _WAITING
    ]
    return InstanceHealth(
        daemons=tuple(_daemons(instance, now)),
        ticks=tuple(tick_healths(instance, ticking, now=now)),
        pools=tuple(_pool(instance, name) for name in pools),
        runs=dict(Counter(record.dagster_run.status.value.lower() for record in records)),
        queue_oldest_s=max(waiting, default=0.0),
        dead_runs=tuple(_dead(instance, [record.dagster_run for record in records])),
    )


def _dead(instance: dg.DagsterInstance, runs: Sequence[dg.DagsterRun]) -> list[str]:
    """Ids of those whose process is gone, and that had not ended by themselves before it was."""
    gone = [run for run in runs if is_gone_run(run)]
    return [run.run_id for run in gone if dead_run(instance, run) is not None]


def is_gone_run(run: dg.DagsterRun) -> bool:
    """Whether a run is under way and its process on this host is gone."""
    return run.status not in _WAITING and WORKER_TAG in run.tags and is_gone(run.tags[WORKER_TAG])


def _daemons(instance: dg.DagsterInstance, now: datetime) -> list[DaemonHealth]:
    healths = []
    for name, status in instance.get_daemon_statuses().items():
        beat = status.last_heartbeat
        age = max(0.0, now.timestamp() - beat.timestamp) if beat is not None else None
        healths.append(DaemonHealth(name=name, age_s=age))
    return sorted(healths, key=lambda health: health.name)


def tick_healths(
    instance: dg.DagsterInstance,
    ticking: Mapping[str, float],
    *,
    now: datetime,
    turns: Sequence[datetime] = (),
) -> list[TickHealth]:
    """Each sensor and schedule named, as the daemons have seen it; the newest where it moved.

    For how long a daemon was up to tick them is told by the turns of the schedules among them,
    and by `turns`, which are under way.
    """
    found: dict[str, TickHealth] = {}
    states = [s for s in instance.all_instigator_state() if s.instigator_name in ticking]
    up_s = _up_s(instance, states, ticking, now=now, turns=turns)
    for state in states:
        name = state.instigator_name
        health = _ticks(instance, state, every_s=ticking[name], now=now, up_s=up_s)
        if name not in found or _silence(health) < _silence(found[name]):
            found[name] = health
    never = {
        name: TickHealth(
            name=name, kind="sensor", on=True, every_s=every_s, age_s=None, watched_s=up_s
        )
        for name, every_s in ticking.items()
    }
    return sorted({**never, **found}.values(), key=lambda health: health.name)


def _silence(health: TickHealth) -> float:
    return math.inf if health.age_s is None else health.age_s


def _up_s(
    instance: dg.DagsterInstance,
    states: Sequence[InstigatorState],
    ticking: Mapping[str, float],
    *,
    now: datetime,
    turns: Sequence[datetime],
) -> float | None:
    """For how long a daemon has been up: schedules take their turns also where nothing is new."""
    schedules = [s for s in states if s.instigator_type is InstigatorType.SCHEDULE]
    gap_s = 3 * max((ticking[s.instigator_name] for s in schedules), default=0.0)
    # Beyond what any sensor's silence is compared with.
    enough_s = 2 * gap_s + max(
        TickHealth(name=name, kind="sensor", on=True, every_s=every_s, age_s=None).longest_silence_s
        for name, every_s in ticking.items()
    )
    instants = [turn.timestamp() for turn in turns]
    for state in schedules:
        ids = (state.instigator_origin_id, state.selector_id)
        after = now.timestamp() - enough_s
        ticks = instance.get_ticks(*ids, after=after, limit=_MOST_TURNS)
        instants += [tick.timestamp for tick in ticks if tick.timestamp <= now.timestamp()]
    return unbroken_s(instants, now=now.timestamp(), gap_s=gap_s)


def _on_s(state: InstigatorState, now: datetime) -> float | None:
    """Seconds since it was switched on, where Dagster wrote that down."""
    match state.instigator_data:
        case SensorInstigatorData(last_sensor_start_timestamp=float() as on_at):
            return max(0.0, now.timestamp() - on_at)
        case ScheduleInstigatorData(start_timestamp=float() as on_at):
            return max(0.0, now.timestamp() - on_at)
        case _:
            return None


def _ticks(
    instance: dg.DagsterInstance,
    state: InstigatorState,
    *,
    every_s: float,
    now: datetime,
    up_s: float | None,
) -> TickHealth:
    ids = (state.instigator_origin_id, state.selector_id)
    good = instance.get_ticks(*ids, limit=1, statuses=[TickStatus.SUCCESS, TickStatus.SKIPPED])
    last = instance.get_ticks(*ids, limit=1, statuses=_FINISHED_TICKS)
    error = last[0].error if last and last[0].status is TickStatus.FAILURE else None
    spans = [span for span in (_on_s(state, now), up_s) if span is not None]
    return TickHealth(
        name=state.instigator_name,
        kind="sensor" if state.instigator_type is InstigatorType.SENSOR else "schedule",
        on=state.is_running,
        every_s=every_s,
        age_s=max(0.0, now.timestamp() - good[0].timestamp) if good else None,
        watched_s=min(spans, default=None),
        error=redact(error.message.strip().splitlines()[-1]) if error is not None else "",
    )


def _pool(instance: dg.DagsterInstance, name: str) -> PoolHealth:
    info = instance.event_log_storage.get_concurrency_info(name)
    return PoolHealth(
        name=name,
        limit=info.slot_count,
        used=info.active_slot_count,
        leaked=len(leaking_runs(instance, name)),
    )


def leaking_runs(instance: dg.DagsterInstance, pool: str) -> list[str]:
    """Ids of the runs that are over and still hold slots of a pool, once per slot."""
    slots = instance.event_log_storage.get_concurrency_info(pool).claimed_slots
    return [slot.run_id for slot in slots if _is_over(instance, slot.run_id)]


def _is_over(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is None or run.is_finished


def drops_under_way(instance: dg.DagsterInstance) -> set[tuple[str, int]]:
    """Name and generation of every drop that a run is queued or live for."""
    runs = instance.get_runs(filters=dg.RunsFilter(statuses=UNFINISHED))
    named = {named_drop(run) for run in runs if not is_gone_run(run)}
    return {drop for drop in named if drop is not None}


def batches_under_way(instance: dg.DagsterInstance) -> set[str]:
    """The batches that a run works on."""
    working = [status for status in UNFINISHED if status not in _WAITING]
    runs = instance.get_runs(filters=dg.RunsFilter(statuses=working))
    return {batch for run in runs if is_batch_id(batch := run.tags.get(PARTITION_TAG, ""))}


def queue_alert(instance: dg.DagsterInstance, *, now: datetime, longest: timedelta) -> list[Alert]:
    """Runs that wait while nothing runs: a dead worker's slot, or a daemon that launches none."""
    records = instance.get_run_records(filters=dg.RunsFilter(statuses=UNFINISHED))
    working = [record for record in records if record.dagster_run.status not in _WAITING]
    waits = [now - record.create_timestamp for record in records]
    if working or not waits or max(waits) <= longest:
        return []
    minutes = int(max(waits).total_seconds() // 60)
    return [
        Alert(
            kind=AlertKind.QUEUE_STUCK,
            about="",
            what=f"{len(waits)} runs are queued since up to {minutes} minutes and none runs",
            command="assetgen doctor --fix",
        )
    ]
