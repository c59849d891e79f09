"""Runs of a batch: what their tags say, and whether they are alive."""

import dagster as dg

from assetgen_pipeline.defs.workers import WORKER_TAG, is_gone
from assetgen_pipeline.domain.bucket_layout import parse_drop
from assetgen_pipeline.stages.parse_batch import InboxObject

PARTITION_TAG = "dagster/partition"
INBOX_OBJECT_TAG = "assetgen/inbox_object"
INBOX_GENERATION_TAG = "assetgen/inbox_generation"


def inbox_object_of(run: dg.DagsterRun) -> InboxObject | None:
    """The drop that the sensor requested a run for, `None` where a person started it."""
    name = run.tags.get(INBOX_OBJECT_TAG)
    drop = parse_drop(name) if name else None
    if drop is None:
        return None
    return InboxObject(
        name=drop.name, generation=int(run.tags[INBOX_GENERATION_TAG]), dry_run=drop.dry_run
    )


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
