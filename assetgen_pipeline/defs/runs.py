"""Runs of a batch: what their tags say, and whether they are alive."""

import re

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from assetgen_pipeline.defs.workers import WORKER_TAG, is_gone, launcher_is_gone
from assetgen_pipeline.stages.parse_batch import InboxObject, own_drop

PARTITION_TAG = "dagster/partition"
# What the queue limits: one run of an owner at a time.
OWNER_TAG = "assetgen/owner"
LANE_TAG = "assetgen/lane"
INBOX_OBJECT_TAG = "assetgen/inbox_object"
INBOX_GENERATION_TAG = "assetgen/inbox_generation"
# The generation of the wait that a run was requested for.
WAIT_TAG = "assetgen/wait"
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)


def inbox_object_of(run: dg.DagsterRun, *, bucket: str) -> InboxObject | None:
    """The drop that a run was requested for, `None` where its tags name none that is its batch."""
    drop = named_drop(run)
    if drop is None:
        return None
    return own_drop(run.tags.get(PARTITION_TAG, ""), *drop, bucket=bucket)


def named_drop(run: dg.DagsterRun) -> tuple[str, int] | None:
    """Name and generation of the inbox object that a run's tags name, if they do."""
    name, generation = run.tags.get(INBOX_OBJECT_TAG), number_in(run, INBOX_GENERATION_TAG)
    return (name, generation) if name is not None and generation is not None else None


def number_in(run: dg.DagsterRun, tag: str) -> int | None:
    """The whole number in a tag, `None` where there is none: whoever launches a run sets tags."""
    text = run.tags.get(tag, "")
    return int(text) if _NUMBER.fullmatch(text) else None


def run_is_live(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a run may still be working."""
    run = instance.get_run_by_id(run_id)
    return run is not None and may_be_working(run)


def may_be_working(run: dg.DagsterRun) -> bool:
    """Whether a run, as it was just read, is not over and its worker not known to be gone."""
    if run.is_finished:
        return False
    worker = run.tags.get(WORKER_TAG)
    return worker is None or not is_gone(worker)


def unfinished_runs(
    instance: dg.DagsterInstance, batch_id: str, *, launches_here: bool = False
) -> list[dg.DagsterRun]:
    """The batch's runs that are queued or may be working, newest first."""
    filters = dg.RunsFilter(tags={PARTITION_TAG: batch_id}, statuses=NOT_FINISHED_STATUSES)
    runs = instance.get_runs(filters=filters)
    return [run for run in runs if not is_dead(run, launches_here=launches_here)]


def dead_run(
    instance: dg.DagsterInstance, run: dg.DagsterRun, *, launches_here: bool = False
) -> dg.DagsterRun | None:
    """The run as it is now, where it has provably lost its process; `None` where it has not.

    A run that was read while it worked may have ended by itself, and its process with it, until
    that process was looked for. Read again once the process is gone, it says what that wrote last.
    """
    if not is_dead(run, launches_here=launches_here):
        return None
    present = instance.get_run_by_id(run.run_id)
    if present is None or present.is_finished:
        return None
    return present if is_dead(present, launches_here=launches_here) else None


def is_dead(run: dg.DagsterRun, *, launches_here: bool) -> bool:
    """Whether a run that is not over has provably lost its process.

    `launches_here`: the daemon is on this machine, so that a run is dead too if the server
    that was told to start it is gone before any worker signed it.
    """
    if WORKER_TAG in run.tags:
        return is_gone(run.tags[WORKER_TAG])
    return launches_here and launcher_is_gone(run.tags)
