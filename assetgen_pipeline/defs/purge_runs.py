"""A purge beside runs: what a run is about to use is not deleted under it.

A purge stands in Dagster's storage as a run before it looks for runs of its owner, and each of
those stands there before a step of it looks for a purge. So of two that begin together at least
one sees the other: the purge refuses, or the step stands aside until the purge is over. What
runs used before that is in the ledger and in artifacts, which the purge reads after it looked.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster._core.events import DagsterEvent
from dagster._core.storage.tags import MAX_RUNTIME_SECONDS_TAG

from assetgen_pipeline.defs.closing import WORKING
from assetgen_pipeline.defs.failures import domain_errors_as_failures
from assetgen_pipeline.defs.runs import OWNER_TAG, PARTITION_TAG, may_be_working
from assetgen_pipeline.defs.termination import stopping_gently
from assetgen_pipeline.defs.workers import WORKER_TAG, worker_identity
from assetgen_pipeline.domain.bucket_layout import BatchFolder, is_batch_id, owner_of
from assetgen_pipeline.domain.errors import BatchBusy, BatchNotFound, PurgeStopped
from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.stages.orders import stop_code
from assetgen_pipeline.stages.services import Services
from assetgen_pipeline.stages.stage_progress import note_wait

PURGED_TAG = "assetgen/purged"
_LOOK_S = 1.0
# For so long a purge that died on another machine holds its owner's batches up.
_LONGEST_S = 3600


@dg.job(description="Stands for `assetgen purge` while it deletes; launched, it does nothing.")
def purge_batch() -> None:
    """No ops: the command deletes, and this is how runs know of it."""


@contextmanager
def purge_run(instance: dg.DagsterInstance, batch_id: str) -> Iterator[str]:
    """The id of a run that says that a batch is being purged; over when the block is.

    It has the owner's tag, so the queue starts no batch of the owner meanwhile, and is signed by
    this process, so that a sweep ends it where this process dies.

    Raises:
        BatchBusy: a run of the owner may be working, or another purge.
    """
    run = instance.create_run_for_job(
        purge_batch,
        tags={
            OWNER_TAG: owner_of(batch_id),
            PURGED_TAG: batch_id,
            WORKER_TAG: worker_identity(),
            MAX_RUNTIME_SECONDS_TAG: str(_LONGEST_S),
        },
    )
    try:
        _report(instance, run, dg.DagsterEventType.RUN_START)
        _refuse_beside_runs(instance, run)
        yield run.run_id
    except BaseException:
        instance.report_run_failed(run, "it did not come to its end")
        raise
    _report(instance, run, dg.DagsterEventType.RUN_SUCCESS)


def see_purge_goes_on(instance: dg.DagsterInstance, run_id: str) -> None:
    """See that nobody has ended the run of a purge, after which runs of the owner begin again.

    Raises:
        PurgeStopped: somebody has.
    """
    run = instance.get_run_by_id(run_id)
    if run is None or run.status is not dg.DagsterRunStatus.STARTED:
        raise PurgeStopped("the run of this purge was ended from outside")


def purge_under_way(instance: dg.DagsterInstance, owner: str) -> str | None:
    """The batch of the owner that is being purged now, if one is."""
    found = _purges(instance, owner)
    return found[0].tags[PURGED_TAG] if found else None


async def stand_aside(
    context: dg.OpExecutionContext, *, provider: str, services: Services, deployment: Deployment
) -> None:
    """Wait while a batch of this one's owner is being purged; ordered to stop, no longer.

    Then the run's `deployment.memory` says so. Every step that uses what other batches of the
    owner have stored calls this first.

    Raises:
        dg.Failure: it was this batch that was purged.
    """
    batch_id, run_id, memory, said = context.partition_key, context.run_id, deployment.memory, ""
    owner = owner_of(batch_id)
    with stopping_gently(lambda: memory.stop(run_id, "interrupted")):
        while (purged := purge_under_way(context.instance, owner)) is not None:
            with domain_errors_as_failures():
                if purged != said:
                    said = purged
                    context.log.info(f"waits until {purged} is purged")
                    note_wait(batch_id, f"the purge of {purged}", services=services)
                memory.stop(
                    run_id,
                    stop_code(batch_id, owner=owner, provider=provider, store=services.store),
                )
            if memory.stop_code(run_id):
                break
            await services.clock.sleep(_LOOK_S)
    if said:
        with domain_errors_as_failures():
            note_wait(batch_id, "", services=services)
            if services.store.stat(BatchFolder(batch_id).request) is None:
                message = f"{batch_id} was purged"
                raise BatchNotFound(message)


def _purges(instance: dg.DagsterInstance, owner: str) -> list[dg.DagsterRun]:
    filters = dg.RunsFilter(job_name=purge_batch.name, tags={OWNER_TAG: owner}, statuses=WORKING)
    return [run for run in instance.get_runs(filters=filters) if may_be_working(run)]


def _refuse_beside_runs(instance: dg.DagsterInstance, purge: dg.DagsterRun) -> None:
    batch_id, owner = purge.tags[PURGED_TAG], purge.tags[OWNER_TAG]
    for other in _purges(instance, owner):
        if other.run_id != purge.run_id:
            message = f"{other.tags[PURGED_TAG]} of the same owner is being purged"
            raise BatchBusy(message)
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=WORKING)):
        busy = run.tags.get(PARTITION_TAG, "")
        if is_batch_id(busy) and owner_of(busy) == owner and may_be_working(run):
            message = f"run {run.run_id} works on {busy} and may be using images of {batch_id}"
            raise BatchBusy(message)


def _report(instance: dg.DagsterInstance, run: dg.DagsterRun, kind: dg.DagsterEventType) -> None:
    event = DagsterEvent(kind.value, job_name=run.job_name)
    instance.report_dagster_event(event, run_id=run.run_id)
