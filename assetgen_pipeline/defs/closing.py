"""End batches whose run is over: after a failure, a cancel, or the death of a process."""

import logging

import dagster as dg

from assetgen_pipeline.defs.runs import PARTITION_TAG
from assetgen_pipeline.defs.workers import WORKER_TAG, is_gone
from assetgen_pipeline.domain.bucket_layout import is_batch_id
from assetgen_pipeline.domain.errors import AssetgenError, BatchCancelled
from assetgen_pipeline.stages.close_batch import close_batch
from assetgen_pipeline.stages.services import Services

logger = logging.getLogger(__name__)

_WORKING = [
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


class RunDied(AssetgenError):
    """The process that worked on the batch is gone."""

    retryable = True
    fix = "`assetgen retry BATCH` finishes it; nothing delivered is paid again."


class RunFailed(AssetgenError):
    """A step of the run failed."""

    fix = "Read the failed step in the Dagster UI, then `assetgen retry BATCH`."


def close_run(run: dg.DagsterRun, error: AssetgenError, *, services: Services) -> bool:
    """Close the batch of a run that is over; `False` where the run belongs to no batch."""
    batch_id = run.tags.get(PARTITION_TAG, "")
    if not is_batch_id(batch_id):
        return False
    close_batch(batch_id, error, run_id=run.run_id, services=services)
    return True


def death(*, cancelled: bool) -> AssetgenError:
    """Why the batch of a killed process ended."""
    if cancelled:
        return BatchCancelled("stopped by its operator")
    return RunDied("the process that worked on this batch was killed")


def sweep(instance: dg.DagsterInstance, *, services: Services) -> list[str]:
    """End every run whose worker process is gone: its status, its slots, its batch.

    Returns the ids of the runs ended.
    """
    runs = instance.get_runs(filters=dg.RunsFilter(statuses=_WORKING))
    dead = [run for run in runs if WORKER_TAG in run.tags and is_gone(run.tags[WORKER_TAG])]
    for run in dead:
        end_dead_run(instance, run, services=services, cancelled=False)
    return [run.run_id for run in dead]


def end_dead_run(
    instance: dg.DagsterInstance, run: dg.DagsterRun, *, services: Services, cancelled: bool
) -> None:
    """Free a dead run's pool slots, close its batch, and report it ended."""
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    cancelled = cancelled or run.status is dg.DagsterRunStatus.CANCELING
    error = death(cancelled=cancelled)
    close_run(run, error, services=services)
    if cancelled:
        instance.report_run_canceled(run, message=str(error))
    else:
        instance.report_run_failed(run, message=str(error))
    logger.warning("ended dead run %s", run.run_id)
