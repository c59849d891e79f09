"""Sensors: notice new drops, end what died, close what failed.

Deciding which drops need a run is pure and lives in `domain.inbox`; a sensor reads, calls
it, and reports.
https://docs.dagster.io/guides/automate/sensors
"""

import dagster as dg

from assetgen_pipeline.defs.assets import owner_tags
from assetgen_pipeline.defs.closing import RunFailed, close_run, sweep
from assetgen_pipeline.defs.jobs import generate_batch
from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.defs.runs import INBOX_GENERATION_TAG, INBOX_OBJECT_TAG, may_be_working
from assetgen_pipeline.domain.bucket_layout import INBOX
from assetgen_pipeline.domain.errors import BatchCancelled
from assetgen_pipeline.domain.inbox import (
    DropSeen,
    RunPlan,
    RunState,
    TickCursor,
    plan_tick,
    run_key,
)
from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.stages.services import Services

# Dagster's sensor loop looks every 5 s at the soonest.
_EVERY_S = 5
_RUN_KEY_TAG = "dagster/run_key"
_KEYS_PER_QUERY = 500


@dg.sensor(
    job=generate_batch,
    minimum_interval_seconds=_EVERY_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Requests one run per CSV dropped in `inbox/<owner>/`; lists nothing else.",
)
def inbox_sensor(
    context: dg.SensorEvaluationContext,
    services: dg.ResourceParam[Services],
    deployment: dg.ResourceParam[Deployment],
) -> dg.SensorResult:
    """List the inbox once and request what `plan_tick` decides."""
    store = services.store
    cursor = TickCursor.model_validate_json(context.cursor) if context.cursor else TickCursor()
    # The states first: a run that claims and ends between the two reads has emptied its place.
    run_states = _run_states(context.instance, cursor)
    plan = plan_tick(
        [
            DropSeen(name=o.name, generation=o.generation, updated_at=o.updated_at)
            for o in store.list(INBOX)
        ],
        bucket=store.bucket,
        cursor=cursor,
        run_states=run_states,
        owners_allowed=deployment.inbox_owners or None,
        max_runs=deployment.max_runs_per_tick,
        now=services.clock.now(),
    )
    reports = [f"left alone {name}: {reason}" for name, reason in plan.ignored]
    reports += [f"gave up on {run.drop.name} after {run.attempt} runs" for run in plan.given_up]
    for report in reports:
        context.log.warning(report)
    keys = [run.batch_id for run in plan.requests]
    return dg.SensorResult(
        run_requests=[_request(run) for run in plan.requests],
        dynamic_partitions_requests=[batches.build_add_request(keys)] if keys else [],
        cursor=plan.cursor.model_dump_json(),
        skip_reason=None if keys else dg.SkipReason("; ".join(reports) or "nothing new"),
    )


def _request(run: RunPlan) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=run.run_key,
        partition_key=run.batch_id,
        tags={
            **owner_tags(run.batch_id),
            INBOX_OBJECT_TAG: run.drop.name,
            INBOX_GENERATION_TAG: str(run.generation),
        },
    )


def _run_states(instance: dg.DagsterInstance, cursor: TickCursor) -> dict[str, RunState]:
    """The state of the newest run of each pending key; keys without a run are left out."""
    keys = [run_key(p.name, p.generation, p.attempt) for p in cursor.pending]
    states: dict[str, RunState] = {}
    # A query for many at once: a backlog of thousands must not take a tick's 60 seconds.
    for first in range(0, len(keys), _KEYS_PER_QUERY):
        wanted = {_RUN_KEY_TAG: keys[first : first + _KEYS_PER_QUERY]}
        for run in reversed(instance.get_runs(filters=dg.RunsFilter(tags=wanted))):
            states[run.tags[_RUN_KEY_TAG]] = _run_state(run)
    return states


def _run_state(run: dg.DagsterRun) -> RunState:
    if may_be_working(run):
        return "live"
    return "done" if run.is_success else "failed"


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ends runs whose worker process is gone: status, pool slots, money, results.",
)
def dead_run_sensor(
    context: dg.SensorEvaluationContext, services: dg.ResourceParam[Services]
) -> dg.SkipReason:
    """Sweep once."""
    ended = sweep(context.instance, services=services)
    return dg.SkipReason(f"ended {', '.join(ended)}" if ended else "no dead run")


@dg.run_failure_sensor(
    monitored_jobs=[generate_batch],
    minimum_interval_seconds=_EVERY_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Closes the batch of a failed run: results written, money released.",
)
def failed_run_sensor(
    context: dg.RunFailureSensorContext, services: dg.ResourceParam[Services]
) -> None:
    """Close one failed run's batch."""
    close_run(context.dagster_run, RunFailed("a step of the run failed"), services=services)


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.CANCELED,
    monitored_jobs=[generate_batch],
    minimum_interval_seconds=_EVERY_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Closes the batch of a cancelled run: results written, money released.",
)
def cancelled_run_sensor(
    context: dg.RunStatusSensorContext, services: dg.ResourceParam[Services]
) -> None:
    """Close one cancelled run's batch."""
    close_run(context.dagster_run, BatchCancelled("the run was cancelled"), services=services)


SENSORS = [inbox_sensor, dead_run_sensor, failed_run_sensor, cancelled_run_sensor]
