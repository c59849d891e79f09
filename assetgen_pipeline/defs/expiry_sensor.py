"""The sensor that finds published links which end soon, and asks for their refresh.

It reads the due hours of the expiry index and signs nothing itself, so that ten thousand
links never hold a tick up.
https://docs.dagster.io/guides/automate/sensors
"""

import dagster as dg

from assetgen_pipeline.defs.runs import may_be_working
from assetgen_pipeline.defs.url_refresh import REFRESH_JOB, refresh_run_config
from assetgen_pipeline.domain.delivery import RefreshCause
from assetgen_pipeline.domain.refresh_plan import RefreshCursor, plan_refresh
from assetgen_pipeline.stages.expiry_index import indexed_until
from assetgen_pipeline.stages.refresh_published import refresh_horizon
from assetgen_pipeline.stages.services import Services

_BATCHES_PER_RUN = 200
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


@dg.sensor(
    job_name=REFRESH_JOB,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Requests one run of `refresh_urls` for the published links that end soon.",
)
def expiring_urls_sensor(
    context: dg.SensorEvaluationContext, services: dg.ResourceParam[Services]
) -> dg.SensorResult:
    """List what is due once and request what `plan_refresh` decides."""
    now = services.clock.now()
    plan = plan_refresh(
        indexed_until(now + refresh_horizon(services.urls), store=services.store),
        cursor=RefreshCursor.model_validate_json(context.cursor)
        if context.cursor
        else RefreshCursor(),
        now=now,
        policy=services.urls,
        limit=_BATCHES_PER_RUN,
        at_work=_at_work(context.instance),
    )
    cursor = plan.cursor.model_dump_json()
    if not plan.batch_ids:
        return dg.SensorResult(skip_reason=dg.SkipReason("no links end soon"), cursor=cursor)
    config = refresh_run_config(list(plan.batch_ids), RefreshCause.EXPIRING)
    return dg.SensorResult(run_requests=[dg.RunRequest(run_config=config)], cursor=cursor)


def _at_work(instance: dg.DagsterInstance) -> bool:
    """Whether a refresh is queued or running; one whose worker is gone is not."""
    unfinished = dg.RunsFilter(job_name=REFRESH_JOB, statuses=_UNFINISHED)
    return any(may_be_working(run) for run in instance.get_runs(unfinished))
