"""The inbox sensor: notices new drops and asks for their runs.

Deciding which drops need a run is pure and lives in `domain.inbox`; a sensor reads, calls
it, and reports.
https://docs.dagster.io/guides/automate/sensors
"""

from collections.abc import Mapping

import dagster as dg

from assetgen_pipeline.defs.assets import owner_tags
from assetgen_pipeline.defs.jobs import generate_batch
from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.defs.runs import INBOX_GENERATION_TAG, INBOX_OBJECT_TAG, may_be_working
from assetgen_pipeline.domain.batch_file import CsvLimits, check_size
from assetgen_pipeline.domain.bucket_layout import INBOX, BatchFolder
from assetgen_pipeline.domain.errors import BatchRejected, RunDied
from assetgen_pipeline.domain.inbox import (
    DropSeen,
    RunPlan,
    RunState,
    TickCursor,
    plan_tick,
    run_key,
)
from assetgen_pipeline.domain.pauses import PauseState
from assetgen_pipeline.stages.close_batch import close_batch
from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.stages.pausing import read_pauses
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
    pauses = read_pauses(store=store)
    plan = plan_tick(
        [
            DropSeen(
                name=o.name,
                generation=o.generation,
                updated_at=o.updated_at,
                too_large=o.size > deployment.csv_limits.max_bytes,
            )
            for o in store.list(INBOX)
        ],
        bucket=store.bucket,
        cursor=cursor,
        run_states=run_states,
        owners_allowed=deployment.inbox_owners or None,
        max_runs=deployment.max_runs_per_tick,
        now=services.clock.now(),
        is_paused=lambda owner: pauses.stopping(owner, deployment.provider) is not None,
    )
    reports = [f"left alone {name}: {reason}" for name, reason in plan.ignored]
    reports += [f"gave up on {run.drop.name} after {run.attempt} runs" for run in plan.given_up]
    reports += [f"{run.drop.name} is too large and is left unread" for run in plan.too_large]
    for report in reports:
        context.log.warning(report)
    for run in plan.given_up:
        _give_up(run, services)
    for run in plan.too_large:
        _reject(run, deployment.csv_limits, services)
    reports += _paused_reports(plan.paused, pauses, deployment.provider)
    keys = [run.batch_id for run in plan.requests]
    return dg.SensorResult(
        run_requests=[_request(run) for run in plan.requests],
        dynamic_partitions_requests=[batches.build_add_request(keys)] if keys else [],
        cursor=plan.cursor.model_dump_json(),
        skip_reason=None if keys else dg.SkipReason("; ".join(reports) or "nothing new"),
    )


def _give_up(run: RunPlan, services: Services) -> None:
    """Say in the outbox that no run could claim the file, unless one did at last."""
    error = RunDied(f"none of {run.attempt} runs could claim the file")
    if services.store.stat(BatchFolder(run.batch_id).request) is None:
        close_batch(run.batch_id, error, run_id="", services=services)


def _reject(run: RunPlan, limits: CsvLimits, services: Services) -> None:
    """Say in the outbox that the file is too large; it stays in the inbox, unread."""
    found = services.store.stat(run.drop.name)
    try:
        check_size(found.size if found is not None else 0, limits)
    except BatchRejected as rejected:
        close_batch(run.batch_id, rejected, run_id="", services=services)


def _paused_reports(paused: Mapping[str, int], pauses: PauseState, provider: str) -> list[str]:
    reports = []
    for owner, files in paused.items():
        pause = pauses.stopping(owner, provider)
        if pause is not None:
            reports.append(f"{files} of {owner} wait: {pause.sentence()}")
    return reports


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
    # Whoever cancels a run wants none in its place; its file leaves the inbox as its batch ends.
    if may_be_working(run) or run.status is dg.DagsterRunStatus.CANCELED:
        return "live"
    return "done" if run.is_success else "failed"
