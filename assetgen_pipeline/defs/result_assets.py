"""The assets that people open: results, signed URLs, costs.

`batch_costs` is the last of a batch: it settles the hold and sets the final state.
"""

from datetime import timedelta

import dagster as dg

from assetgen_pipeline.defs.assets import OWNERS
from assetgen_pipeline.defs.closing import refuse_beside_another
from assetgen_pipeline.defs.failures import domain_errors_as_failures
from assetgen_pipeline.defs.metadata import (
    batch_cost_metadata,
    delivery_metadata,
    signing_metadata,
    table_schema,
)
from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.cost_facts import FACT_COLUMNS
from assetgen_pipeline.domain.delivery import SignedUrls
from assetgen_pipeline.domain.image_request import BatchRequests, Value
from assetgen_pipeline.domain.outcome import BatchOutcome
from assetgen_pipeline.stages.batch_files import outcome_now
from assetgen_pipeline.stages.close_batch import finish_batch, settle_batch
from assetgen_pipeline.stages.deliver_images import deliver_images
from assetgen_pipeline.stages.refresh_urls import keep_fresh, sign_results
from assetgen_pipeline.stages.report_costs import report_costs
from assetgen_pipeline.stages.reserve_budget import BudgetHold
from assetgen_pipeline.stages.services import Services
from assetgen_pipeline.stages.shard_report import GenerationReport
from assetgen_pipeline.stages.stage_progress import report_delivery

_PREVIEW_IMAGES = 3
# No link lives longer than seven days: once nothing was signed for so long, none works.
LINKS_ALIVE = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(days=7), warn_window=timedelta(days=6, hours=12)
)


class DeliveredFiles(Value):
    """The result files written, URLs aside: the artifact of `delivered_images`."""

    files: tuple[str, ...]
    images: dict[str, int]


class CostReport(Value):
    """The cost files rewritten: the artifact of `batch_costs`."""

    files: tuple[str, ...]
    cost_micros: int


def _outcome(batch_id: str, services: Services) -> BatchOutcome:
    outcome = outcome_now(batch_id, store=services.store, ledger=services.ledger)
    if outcome is None:
        raise AssertionError("unreachable")
    return outcome


@dg.asset(partitions_def=batches, group_name="batches", kinds={"gcs", "html"}, owners=OWNERS)
def delivered_images(
    context: dg.AssetExecutionContext,
    generated_images: GenerationReport,
    services: dg.ResourceParam[Services],
) -> dg.MaterializeResult[DeliveredFiles]:
    """Manifest, failed rows and contact sheet: every row with images or a reason."""
    del generated_images  # The outcomes stand in the ledger, also those of earlier runs.
    with domain_errors_as_failures():
        outcome = _outcome(context.partition_key, services)
        report_delivery(outcome, services=services)
        files = deliver_images(outcome, services=services)
    thumbnails = [i.image.thumbnail_name for i in outcome.images if i.image is not None]
    return dg.MaterializeResult(
        value=DeliveredFiles(files=tuple(files), images=outcome.counts()),
        metadata=delivery_metadata(
            outcome,
            bucket=services.store.bucket,
            links=[services.link(name) for name in thumbnails[:_PREVIEW_IMAGES]],
            sheet=services.link(BatchFolder(context.partition_key).contact_sheet),
        ),
    )


@dg.asset(
    partitions_def=batches,
    group_name="batches",
    kinds={"gcs", "csv"},
    owners=OWNERS,
    freshness_policy=LINKS_ALIVE,
)
def signed_urls(
    context: dg.AssetExecutionContext,
    delivered_images: DeliveredFiles,
    services: dg.ResourceParam[Services],
) -> dg.MaterializeResult[SignedUrls]:
    """`results.csv` with freshly signed links; the URLs stand there and nowhere else."""
    del delivered_images
    with domain_errors_as_failures():
        signed = sign_results(_outcome(context.partition_key, services), services=services)
    return dg.MaterializeResult(value=signed, metadata=signing_metadata(signed))


@dg.asset(
    partitions_def=batches,
    group_name="batches",
    kinds={"parquet", "gcs"},
    owners=OWNERS,
    metadata={"dagster/column_schema": table_schema(FACT_COLUMNS)},
)
def batch_costs(
    context: dg.AssetExecutionContext,
    signed_urls: SignedUrls,
    batch_requests: BatchRequests,
    budget_hold: BudgetHold,
    services: dg.ResourceParam[Services],
) -> dg.MaterializeResult[CostReport]:
    """What the batch cost, one Parquet row per image; settles the hold and ends the batch."""
    del signed_urls
    with domain_errors_as_failures():
        refuse_beside_another(
            context.instance, context.partition_key, context.run.run_id, services=services
        )
        settle_batch(batch_requests.batch_id, services=services)
        outcome = _outcome(batch_requests.batch_id, services)
        files = report_costs(outcome.batch_id, services=services)
        keep_fresh(outcome, services=services)
        finish_batch(outcome, services=services)
    return dg.MaterializeResult(
        value=CostReport(files=tuple(files), cost_micros=outcome.spent().micros),
        metadata=batch_cost_metadata(outcome, budget_hold.estimate),
    )
