"""Sensors on runs: end what died, close what failed or was cancelled.

https://docs.dagster.io/guides/automate/sensors
"""

import dagster as dg

from assetgen_pipeline.defs.closing import close_failed_run, close_run
from assetgen_pipeline.defs.jobs import generate_batch
from assetgen_pipeline.defs.recovery import recover
from assetgen_pipeline.defs.run_alerts import failure_text, telling
from assetgen_pipeline.defs.unclosed_runs import kept_in_mind
from assetgen_pipeline.domain.alerts import AlertKind
from assetgen_pipeline.domain.errors import BatchCancelled
from assetgen_pipeline.stages.alerting import Alerting
from assetgen_pipeline.stages.services import Services

# Dagster's sensor loop looks every 5 s at the soonest.
_EVERY_S = 5


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ends runs whose worker process is gone (status, pool slots, money, results)"
    " and expires the holds that dead runs left.",
)
def dead_run_sensor(
    context: dg.SensorEvaluationContext, services: dg.ResourceParam[Services]
) -> dg.SkipReason:
    """Recover once."""
    found = recover(context.instance, services=services, launches_here=True)
    return dg.SkipReason(found.summary())


@dg.run_failure_sensor(
    monitored_jobs=[generate_batch],
    minimum_interval_seconds=_EVERY_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Closes the batch of a failed run: results written, money released.",
)
def failed_run_sensor(
    context: dg.RunFailureSensorContext,
    services: dg.ResourceParam[Services],
    alerting: dg.ResourceParam[Alerting],
) -> None:
    """Close one failed run's batch, and tell people."""
    instance, run = context.instance, context.dagster_run
    with telling(run, AlertKind.RUN_FAILED, failure_text(context), services, alerting):
        with kept_in_mind(instance, run):
            close_failed_run(instance, run, services=services)
        recover(instance, services=services)


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.CANCELED,
    monitored_jobs=[generate_batch],
    minimum_interval_seconds=_EVERY_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Closes the batch of a cancelled run: results written, money released.",
)
def cancelled_run_sensor(
    context: dg.RunStatusSensorContext,
    services: dg.ResourceParam[Services],
    alerting: dg.ResourceParam[Alerting],
) -> None:
    """Close one cancelled run's batch, and tell people."""
    run, error = context.dagster_run, BatchCancelled("the run was cancelled")
    with telling(run, AlertKind.RUN_CANCELLED, str(error), services, alerting):
        with kept_in_mind(context.instance, run):
            close_run(context.instance, run, error, services=services)
        recover(context.instance, services=services)
