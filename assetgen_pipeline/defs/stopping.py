"""Where a run stops because an operator said so: cancelled at once, or suspended by a pause.

A cancelled run closes its batch itself and ends CANCELED: Dagster turns the failure of a
step of a run that is being cancelled into that. A suspended run ends quietly, its outputs
skipped: the batch waits in the bucket, where neither a slot nor a process can be lost. So
does a run whose process is told to end: whatever daemon runs next takes the batch up.
"""

import dagster as dg

from assetgen_pipeline.defs.closing import is_taken_over
from assetgen_pipeline.defs.failures import as_failure, domain_errors_as_failures
from assetgen_pipeline.domain.bucket_layout import owner_of
from assetgen_pipeline.domain.errors import BatchCancelled
from assetgen_pipeline.domain.waiting import Cause
from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.stages.orders import is_cancelled, stop_code
from assetgen_pipeline.stages.services import Services
from assetgen_pipeline.stages.stop_batch import end_cancelled, suspend_batch

_WAITS: dict[str, tuple[Cause, str]] = {
    "paused": ("pause", "is paused; it goes on once it is resumed"),
    "interrupted": ("run", "waits for a daemon: this process was told to end"),
}


def stops_here(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    *,
    provider: str,
    services: Services,
    deployment: Deployment,
) -> bool:
    """Obey the orders there are now; whether the run ends here without further output.

    Raises:
        dg.Failure: the batch is cancelled, and the run with it.
    """
    batch_id = context.partition_key
    with domain_errors_as_failures():
        code = stop_code(
            batch_id, owner=owner_of(batch_id), provider=provider, store=services.store
        )
    return obey(code, context, provider=provider, services=services, deployment=deployment)


def obey(
    code: str,
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    *,
    provider: str,
    services: Services,
    deployment: Deployment,
) -> bool:
    """Obey one stop code; whether the run ends here without further output.

    Raises:
        dg.Failure: the batch is cancelled, and the run with it.
    """
    batch_id, run = context.partition_key, context.run
    if code == "interrupted" and _is_cancelled(context, services):
        code = "cancelled"
    if code in _WAITS:
        cause, sentence = _WAITS[code]
        with domain_errors_as_failures():
            if _has_lost_its_batch(context, services):
                sentence = "is no longer this run's"
            else:
                suspend_batch(batch_id, cause, provider=provider, services=services)
        context.log.info(f"{batch_id} {sentence}")
        return True
    if code == "cancelled":
        with domain_errors_as_failures():
            end_cancelled(
                batch_id, run_id=run.run_id, limits=deployment.csv_limits, services=services
            )
        context.instance.report_run_canceling(run)
        raise as_failure(BatchCancelled(f"{batch_id} was cancelled"))
    return False


def _has_lost_its_batch(
    context: dg.OpExecutionContext | dg.AssetExecutionContext, services: Services
) -> bool:
    """Whether the run was ended by force while its process lived on, or another took over.

    Then the batch is not this one's to settle, nor to have run again.
    """
    instance, run_id = context.instance, context.run.run_id
    run = instance.get_run_by_id(run_id)
    return (
        run is None
        or run.is_finished
        or is_taken_over(instance, context.partition_key, run_id, services=services)
    )


def _is_cancelled(
    context: dg.OpExecutionContext | dg.AssetExecutionContext, services: Services
) -> bool:
    """Whether the process was told to end because its run is being cancelled."""
    run = context.instance.get_run_by_id(context.run_id)
    return (run is not None and run.status is dg.DagsterRunStatus.CANCELING) or is_cancelled(
        context.partition_key, store=services.store
    )
