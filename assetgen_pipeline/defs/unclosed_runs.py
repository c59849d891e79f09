"""Runs that are over and whose batch could not be closed then: kept in mind until it can be.

Dagster shows a sensor the end of each run once, also where bucket or ledger were away then.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from assetgen_pipeline.defs.closing import close_failed_run, close_run
from assetgen_pipeline.domain.errors import BatchCancelled, LedgerUnavailable, StorageUnavailable
from assetgen_pipeline.stages.services import Services

UNCLOSED_TAG = "assetgen/unclosed"


@contextmanager
def kept_in_mind(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[None]:
    """Keep the run in mind where its batch cannot be closed inside."""
    try:
        yield
    except (StorageUnavailable, LedgerUnavailable):
        keep_in_mind(instance, run)
        raise


def keep_in_mind(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Have the next recovery close the run's batch."""
    instance.add_run_tags(run.run_id, {UNCLOSED_TAG: "true"})


def close_kept_in_mind(instance: dg.DagsterInstance, *, services: Services) -> None:
    """Close the batches of all runs kept in mind, the oldest first.

    Raises:
        StorageUnavailable, LedgerUnavailable: the rest is kept in mind; call again later.
    """
    filters = dg.RunsFilter(tags={UNCLOSED_TAG: "true"})
    for run in instance.get_runs(filters=filters, ascending=True):
        if run.status is dg.DagsterRunStatus.CANCELED:
            error = BatchCancelled("the run was cancelled")
            close_run(instance, run, error, services=services)
        elif run.status is dg.DagsterRunStatus.FAILURE:
            close_failed_run(instance, run, services=services)
        instance.add_run_tags(run.run_id, {UNCLOSED_TAG: "false"})
