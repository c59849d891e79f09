"""End batches whose run is over: after a failure, a cancel, or the death of a process.

What died, or failed because bucket or ledger was away, is put on the list of waiting batches,
so that the daemon finishes it without anybody asking: `waiting_sensor` runs it again, a few
times at most.
"""

import logging

import dagster as dg
from dagster._core.events import RunFailureReason
from dagster._core.storage.tags import RUN_FAILURE_REASON_TAG

from assetgen_pipeline.defs.run_failure import why_failed
from assetgen_pipeline.defs.runs import (
    PARTITION_TAG,
    WAIT_TAG,
    dead_run,
    inbox_object_of,
    number_in,
    run_is_live,
)
from assetgen_pipeline.domain.bucket_layout import BatchFolder, is_batch_id
from assetgen_pipeline.domain.errors import (
    AssetgenError,
    BatchBusy,
    BatchCancelled,
    BatchNotFound,
    RunDied,
)
from assetgen_pipeline.domain.status import BatchState, BatchStatus, is_terminal
from assetgen_pipeline.ports.object_store import ObjectStore
from assetgen_pipeline.stages.batch_files import booked_outcome
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.stages.close_batch import close_batch, end_with_problem
from assetgen_pipeline.stages.orders import is_cancelled
from assetgen_pipeline.stages.recover_holds import expire_hold
from assetgen_pipeline.stages.services import Services
from assetgen_pipeline.stages.stop_batch import take_from_inbox
from assetgen_pipeline.stages.waiting_batches import read_waiting, wait_for

logger = logging.getLogger(__name__)

# On runs after which their batch was, or would have been, run again by itself.
DIED_TAG = "assetgen/died"
# What a run fails of by itself; every other reason, or none, is the death of its process.
_BY_ITSELF = {
    RunFailureReason.STEP_FAILURE.value,
    RunFailureReason.RUN_EXCEPTION.value,
    RunFailureReason.JOB_INITIALIZATION_FAILURE.value,
}
MAX_DEATHS = 3
WORKING = [
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def close_run(
    instance: dg.DagsterInstance, run: dg.DagsterRun, error: AssetgenError, *, services: Services
) -> bool:
    """Close the batch of a run that is over; `False` where it is not this run's to close."""
    batch_id = run.tags.get(PARTITION_TAG, "")
    if not is_batch_id(batch_id):
        return False
    _withdraw_request(run, batch_id, services.store)
    if isinstance(error, BatchCancelled):
        _withdraw_drop(run, batch_id, services)
    if _goes_on(batch_id, services.store):
        return False
    if is_taken_over(instance, batch_id, run.run_id, services=services) or not _is_its_own(
        instance, run, batch_id, services.store
    ):
        return False
    # Its own request was taken off the list above; any other was made since, to go on.
    keep_request = not isinstance(error, BatchCancelled)
    close_batch(batch_id, error, run_id=run.run_id, services=services, keep_request=keep_request)
    return True


def is_taken_over(
    instance: dg.DagsterInstance, batch_id: str, run_id: str, *, services: Services
) -> bool:
    """Whether a live other run works on the batch: then it is not this run's to end."""
    if not is_batch_id(batch_id):
        return False
    hold = services.ledger.open_hold(batch_id)
    try:
        writer = read_status(batch_id, store=services.store).run_id
    except BatchNotFound:
        writer = None
    others = {hold.run_id if hold is not None else "", writer or ""} - {"", run_id}
    return any(run_is_live(instance, other) for other in others)


def refuse_beside_another(
    instance: dg.DagsterInstance, batch_id: str, run_id: str, *, services: Services
) -> None:
    """See that no live other run works on the batch, whose hold this one would take or end.

    A run of the whole graph has claimed the file; one of some assets or steps has not.

    Raises:
        BatchBusy: one does.
    """
    if is_taken_over(instance, batch_id, run_id, services=services):
        message = f"another run works on {batch_id}"
        raise BatchBusy(message)


def _withdraw_request(run: dg.DagsterRun, batch_id: str, store: ObjectStore) -> None:
    """Take the wait that the run was requested for off the list: it had its run."""
    generation = number_in(run, WAIT_TAG)
    if generation is not None:
        store.delete(BatchFolder(batch_id).waiting, generation=generation)


def _goes_on(batch_id: str, store: ObjectStore) -> bool:
    """Whether somebody asked for another run since, by `retry`, and not to stop again."""
    waiting, status = read_waiting(batch_id, store=store), _status_of(batch_id, store)
    asked = waiting is not None and waiting.cause == "run"
    began_anew = status is not None and status.state is BatchState.RECEIVED
    return asked and began_anew and not is_cancelled(batch_id, store=store)


def _withdraw_drop(run: dg.DagsterRun, batch_id: str, services: Services) -> None:
    """Take the file of a cancelled run out of the inbox, where none has claimed it."""
    drop = inbox_object_of(run, bucket=services.store.bucket)
    if drop is not None and services.store.stat(BatchFolder(batch_id).request) is None:
        take_from_inbox(batch_id, drop, services=services)


def _is_its_own(
    instance: dg.DagsterInstance, run: dg.DagsterRun, batch_id: str, store: ObjectStore
) -> bool:
    """Whether closing the batch takes nothing from a later run, nor from the inbox."""
    claimed = store.stat(BatchFolder(batch_id).request)
    if claimed is None:
        # Still in the inbox: the sensor asks for another run, or reports it at last.
        drop = inbox_object_of(run, bucket=store.bucket)
        found = store.stat(drop.name) if drop is not None else None
        return drop is None or found is None or found.generation != drop.generation
    claimant = claimed.metadata.get("claimed_by", "")
    if claimant == run.run_id:
        return True
    status = _status_of(batch_id, store)
    return not run_is_live(instance, claimant) and (status is None or not is_terminal(status.state))


def _status_of(batch_id: str, store: ObjectStore) -> BatchStatus | None:
    try:
        return read_status(batch_id, store=store)
    except BatchNotFound:
        return None


def death(*, cancelled: bool, resumes: bool = False) -> AssetgenError:
    """Why the batch of a killed process ended."""
    if cancelled:
        return BatchCancelled("stopped by its operator")
    return RunDied("the process that worked on this batch was killed", resumes=resumes)


def sweep(
    instance: dg.DagsterInstance, *, services: Services, launches_here: bool = False
) -> list[str]:
    """End every run whose process is gone: its status, its slots, its batch.

    `launches_here` is as for `dead_run`.

    Returns the ids of the runs ended.
    """
    ended = []
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=WORKING)):
        dead = dead_run(instance, run, launches_here=launches_here)
        if dead is not None:
            end_dead_run(instance, dead, services=services, cancelled=False)
            ended.append(run.run_id)
    return ended


def end_dead_run(
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    *,
    services: Services,
    cancelled: bool,
    finish: bool = True,
) -> None:
    """Free a dead run's pool slots, close its batch, and report it ended.

    Unless somebody cancelled it or watches it (`finish` is false), its batch is finished by
    the next run.
    """
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    batch_id = run.tags.get(PARTITION_TAG, "")
    cancelled = (
        cancelled
        or run.status is dg.DagsterRunStatus.CANCELING
        or (is_batch_id(batch_id) and is_cancelled(batch_id, store=services.store))
    )
    resumes = finish and not cancelled and _may_die_again(instance, batch_id)
    error = death(cancelled=cancelled, resumes=resumes)
    _empty_inbox(run, batch_id, services.store)
    hold = services.ledger.open_hold(batch_id)
    if hold is not None and hold.run_id == run.run_id:
        expire_hold(hold, services=services)
    closed = close_run(instance, run, error, services=services)
    if cancelled:
        instance.report_run_canceled(run, message=str(error))
    else:
        if finish and (closed or WAIT_TAG in run.tags):
            _finish_later(instance, run, error, resumes=resumes, services=services)
        instance.report_run_failed(run, message=str(error))
    logger.warning("ended dead run %s", run.run_id)


def _empty_inbox(run: dg.DagsterRun, batch_id: str, store: ObjectStore) -> None:
    """Delete the drop that a run claimed and died before it could delete it."""
    drop = inbox_object_of(run, bucket=store.bucket)
    if drop is not None and store.stat(BatchFolder(batch_id).request) is not None:
        store.delete(drop.name, generation=drop.generation)


def _may_die_again(instance: dg.DagsterInstance, batch_id: str) -> bool:
    died = dg.RunsFilter(tags={PARTITION_TAG: batch_id, DIED_TAG: "true"})
    return instance.get_runs_count(died) < MAX_DEATHS


def _finish_later(
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    error: AssetgenError,
    *,
    resumes: bool,
    services: Services,
) -> None:
    batch_id = run.tags[PARTITION_TAG]
    status = _status_of(batch_id, services.store)
    if status is not None and status.state is BatchState.FAILED:
        if resumes:
            wait_for("run", batch_id, store=services.store, clock=services.clock)
        elif status.resumes:
            # Its last run ended before it was this run's to close.
            outcome = booked_outcome(batch_id, store=services.store, ledger=services.ledger)
            end_with_problem(batch_id, error, outcome=outcome, run_id=run.run_id, services=services)
    # Last: who is killed here does it again.
    instance.add_run_tags(run.run_id, {DIED_TAG: "true"})


def has_died(run: dg.DagsterRun) -> bool:
    """Whether a failed run lost its process, rather than failed by itself."""
    return run.tags.get(RUN_FAILURE_REASON_TAG) not in _BY_ITSELF


def close_failed_run(
    instance: dg.DagsterInstance, run: dg.DagsterRun, *, services: Services
) -> None:
    """Close what Dagster reports failed: a step of it, or the process under it.

    What bucket or ledger failed by being away is run again, as what died is: to close it,
    both have to answer.
    """
    failure = None if has_died(run) else why_failed(instance, run.run_id)
    if failure is not None and not failure.was_outage:
        close_run(instance, run, failure, services=services)
    elif DIED_TAG not in run.tags:
        batch_id = run.tags.get(PARTITION_TAG, "")
        stopped = is_batch_id(batch_id) and is_cancelled(batch_id, store=services.store)
        resumes = not stopped and _may_die_again(instance, batch_id)
        _empty_inbox(run, batch_id, services.store)
        error = (
            death(cancelled=stopped, resumes=resumes)
            if failure is None or stopped
            else failure.resumed(resumes=resumes)
        )
        closed = close_run(instance, run, error, services=services)
        if not stopped and (closed or WAIT_TAG in run.tags):
            _finish_later(instance, run, error, resumes=resumes, services=services)
