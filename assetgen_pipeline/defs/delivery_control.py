"""What the delivery commands ask of Dagster: refresh links in a run, purge a batch."""

import asyncio
from collections.abc import Sequence
from functools import partial

import dagster as dg

from assetgen_pipeline.defs.build import build_definitions
from assetgen_pipeline.defs.closing import sweep
from assetgen_pipeline.defs.control import open_instance
from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.defs.purge_runs import purge_run, see_purge_goes_on
from assetgen_pipeline.defs.run_failure import RunFailed
from assetgen_pipeline.defs.runs import PARTITION_TAG, may_be_working
from assetgen_pipeline.defs.url_refresh import (
    REFRESH_JOB,
    REFRESH_OP,
    RefreshReport,
    refresh_run_config,
)
from assetgen_pipeline.domain.delivery import RefreshCause
from assetgen_pipeline.domain.errors import BatchBusy
from assetgen_pipeline.settings import Settings
from assetgen_pipeline.stages.purge_batch import Purged, plan_purge, purge_batch
from assetgen_pipeline.stages.refresh_published import Refreshed
from assetgen_pipeline.wiring.services import open_all


def refresh_links(batch_ids: Sequence[str], settings: Settings) -> list[Refreshed]:
    """Run `refresh_urls` for these batches in this process; what became of each.

    Raises:
        RunFailed: the run ended before it said what became of them.
    """
    job = build_definitions(settings).resolve_job_def(REFRESH_JOB)
    with open_instance(settings) as instance:
        with open_all(settings) as services:
            sweep(instance, services=services)
        result = job.execute_in_process(
            instance=instance,
            run_config=refresh_run_config(list(batch_ids), RefreshCause.OPERATOR),
            raise_on_error=False,
        )
    for event in result.all_events:
        if event.is_step_success and event.step_key == REFRESH_OP:
            report: RefreshReport = result.output_for_node(REFRESH_OP)
            return list(report.batches)
    raise RunFailed("the run of refresh_urls failed")


def purge(batch_id: str, settings: Settings, *, dry_run: bool) -> Purged:
    """Delete a batch's objects and its partition; the ledger and the cost facts stay.

    Raises:
        BatchNotFound: nobody knows it.
        BatchBusy: a run works on it, or on another batch of its owner, or that is being purged.
        PurgeStopped: somebody ended it; purging again deletes the rest.
    """
    with open_instance(settings) as instance, open_all(settings) as services:
        sweep(instance, services=services)
        live = [
            run.run_id
            for run in instance.get_runs(dg.RunsFilter(tags={PARTITION_TAG: batch_id}))
            if may_be_working(run)
        ]
        if live:
            message = f"run {live[0]} works on {batch_id}"
            raise BatchBusy(message)
        plan = asyncio.run(plan_purge(batch_id, services=services))
        if dry_run:
            return plan.report
        with purge_run(instance, batch_id) as run_id:
            # Anew: now nobody can come to use what it names.
            plan = asyncio.run(plan_purge(batch_id, services=services))
            goes_on = partial(see_purge_goes_on, instance, run_id)
            purged = asyncio.run(purge_batch(plan, services=services, see_it_goes_on=goes_on))
            # Last: as long as the partition stands, an interrupted purge is seen in the UI.
            instance.delete_dynamic_partition(batches.name or "", batch_id)
            return purged
