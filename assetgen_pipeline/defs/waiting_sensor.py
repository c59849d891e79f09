"""The sensor that looks after batches that wait: approved, resumed, handed over, or left by runs that died.

https://docs.dagster.io/guides/automate/sensors
"""

import dagster as dg

from assetgen_pipeline.defs.assets import owner_tags
from assetgen_pipeline.defs.jobs import generate_batch
from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.defs.runs import WAIT_TAG, unfinished_runs
from assetgen_pipeline.domain.errors import ApprovalExpired, AssetgenError
from assetgen_pipeline.domain.waiting import Waiting, what_is_due
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.stages.close_batch import close_batch
from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.stages.pausing import read_pauses
from assetgen_pipeline.stages.services import Services
from assetgen_pipeline.stages.waiting_batches import waiting_batches

# Dagster's sensor loop looks every 5 s at the soonest.
_EVERY_S = 5


@dg.sensor(
    job=generate_batch,
    minimum_interval_seconds=_EVERY_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Runs batches that waited (approval, pause, retry, a dead run); ends those nobody approved.",
)
def waiting_sensor(
    context: dg.SensorEvaluationContext,
    services: dg.ResourceParam[Services],
    deployment: dg.ResourceParam[Deployment],
) -> dg.SensorResult:
    """Look through the list once."""
    pauses = read_pauses(store=services.store)
    requests: list[dg.RunRequest] = []
    expired: list[str] = []
    waits = 0
    for waiting, generation in waiting_batches(store=services.store):
        due = what_is_due(
            waiting,
            pauses,
            now=services.clock.now(),
            approval_expires=deployment.approval.expires,
        )
        if due == "expire":
            try:
                _expire(waiting, services)
            except AssetgenError as error:
                # At the next tick again; meanwhile it holds up no other.
                context.log.error(f"{waiting.batch_id} cannot be ended: {error.code}: {error}")  # noqa: TRY400
                continue
            expired.append(waiting.batch_id)
        elif due == "wait" or unfinished_runs(context.instance, waiting.batch_id):
            waits += 1
        elif len(requests) < deployment.max_runs_per_tick:
            requests.append(_request(waiting, generation))
    for batch_id in expired:
        context.log.warning(f"nobody approved {batch_id} in time; it is cancelled")
    keys = [str(request.partition_key) for request in requests]
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[batches.build_add_request(keys)] if keys else [],
        skip_reason=None if keys else dg.SkipReason(f"{waits} wait, {len(expired)} expired"),
    )


def _request(waiting: Waiting, generation: int) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{waiting.batch_id}#{generation}",
        partition_key=waiting.batch_id,
        tags={**owner_tags(waiting.batch_id), WAIT_TAG: str(generation)},
    )


def _expire(waiting: Waiting, services: Services) -> None:
    run_id = read_status(waiting.batch_id, store=services.store).run_id or ""
    error = ApprovalExpired("nobody approved the batch in time")
    close_batch(waiting.batch_id, error, run_id=run_id, services=services)
