"""The assets of a batch up to its money: file, requests, hold.

An asset's body unpacks, runs one stage, and reports; what a stage does is in `stages/`.
The assets after these are in `graph_assets` (fan-out) and `result_assets`.
https://docs.dagster.io/guides/build/assets
"""

from collections.abc import Iterator

import dagster as dg

from assetgen_pipeline.defs.failures import as_failure, domain_errors_as_failures
from assetgen_pipeline.defs.metadata import hold_metadata, requests_metadata
from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.defs.runs import inbox_object_of, run_is_live
from assetgen_pipeline.domain.bucket_layout import owner_of
from assetgen_pipeline.domain.errors import BatchRejected, BudgetRefused, ClaimLost
from assetgen_pipeline.domain.image_request import BatchRequests
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_status import write_status
from assetgen_pipeline.stages.close_batch import end_with_problem, refuse_batch
from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.stages.image_receipts import book_receipts
from assetgen_pipeline.stages.parse_batch import claim_batch, parse_batch
from assetgen_pipeline.stages.reserve_budget import BudgetHold, quote_batch, reserve_budget
from assetgen_pipeline.stages.services import Services

OWNERS = ["team:data-platform"]

inbox_csv = dg.AssetSpec(
    "inbox_csv",
    description="A CSV of prompts that the data team dropped in `inbox/<owner>/`.",
    group_name="batches",
    kinds={"gcs", "csv"},
    owners=OWNERS,
)


@dg.asset(
    partitions_def=batches,
    deps=[inbox_csv],
    group_name="batches",
    kinds={"gcs", "csv"},
    owners=OWNERS,
    output_required=False,
    dagster_type=dg.PythonObjectDagsterType(BatchRequests),
)
def batch_requests(
    context: dg.AssetExecutionContext,
    services: dg.ResourceParam[Services],
    deployment: dg.ResourceParam[Deployment],
) -> Iterator[dg.Output[BatchRequests]]:
    """The claimed and validated file: one image request per row.

    A run that meets a live other run on its batch ends quietly.
    """
    batch_id, store, clock = context.partition_key, services.store, services.clock
    with domain_errors_as_failures():
        try:
            claimed = claim_batch(
                batch_id,
                inbox=inbox_object_of(context.run),
                run_id=context.run.run_id,
                is_live=lambda run_id: run_is_live(context.instance, run_id),
                store=store,
                clock=clock,
            )
        except ClaimLost as lost:
            context.log.info(f"{lost}; nothing to do here")
            return
        write_status(
            batch_id,
            BatchState.VALIDATING,
            store=store,
            clock=clock,
            run_id=context.run.run_id,
            mode=claimed.metadata.get("mode", "normal"),
            finished_at=None,
            problem=None,
        )
        try:
            batch = parse_batch(
                batch_id, claimed=claimed, limits=deployment.csv_limits, store=store
            )
        except BatchRejected as rejected:
            end_with_problem(
                batch_id, rejected, outcome=None, run_id=context.run.run_id, services=services
            )
            raise
    yield dg.Output(batch, metadata=requests_metadata(batch, bucket=store.bucket))


@dg.asset(
    partitions_def=batches,
    group_name="batches",
    kinds={"sqlalchemy"},
    owners=OWNERS,
    output_required=False,
    dagster_type=dg.PythonObjectDagsterType(BudgetHold),
)
def budget_hold(
    context: dg.AssetExecutionContext,
    batch_requests: BatchRequests,
    services: dg.ResourceParam[Services],
    deployment: dg.ResourceParam[Deployment],
) -> Iterator[dg.Output[BudgetHold]]:
    """The batch's worst-case cost, held on the owner's day before anything is paid for.

    A dry run is priced here and ends; a batch over the limit is refused here and fails.
    """
    with domain_errors_as_failures():
        if batch_requests.mode == "dry_run":
            _price_only(context, batch_requests, services, deployment)
            return
        attempts = services.ledger.attempts(batch_requests.batch_id)
        book_receipts(attempts, owner=batch_requests.owner, services=services)
        try:
            held = reserve_budget(
                batch_requests,
                run_id=context.run.run_id,
                catalogue=deployment.catalogue,
                provider=deployment.provider,
                model=deployment.model,
                lane="stable",
                ledger=services.ledger,
            )
        except BudgetRefused as refused:
            refuse_batch(batch_requests, refused, run_id=context.run.run_id, services=services)
            raise as_failure(refused) from refused
        write_status(
            batch_requests.batch_id,
            BatchState.RESERVED,
            store=services.store,
            clock=services.clock,
            rows=len(batch_requests.requests),
            estimate_usd=held.estimate.usd(),
            reserved_usd=held.hold.amount.usd(),
        )
    yield dg.Output(held, metadata=hold_metadata(held))


def _price_only(
    context: dg.AssetExecutionContext,
    batch: BatchRequests,
    services: Services,
    deployment: Deployment,
) -> None:
    quote = quote_batch(
        batch,
        catalogue=deployment.catalogue,
        provider=deployment.provider,
        model=deployment.model,
        ledger=services.ledger,
    )
    context.log.info(f"estimate {quote.estimate}, {quote.headroom} left of {quote.limit} today")
    write_status(
        batch.batch_id,
        BatchState.PRICED,
        store=services.store,
        clock=services.clock,
        rows=len(batch.requests),
        estimate_usd=quote.estimate.usd(),
        finished_at=services.clock.now().isoformat(),
    )


def owner_tags(batch_id: str) -> dict[str, str]:
    """The tags of every run of a batch; the owner's is what the queue limits."""
    return {"assetgen/owner": owner_of(batch_id), "assetgen/batch": batch_id}
