"""The assets of a batch up to its money: file, requests, hold.

An asset's body unpacks, runs one stage, and reports; what a stage does is in `stages/`.
The assets after these are in `graph_assets` (fan-out) and `result_assets`.
https://docs.dagster.io/guides/build/assets
"""

from collections.abc import Iterator

import dagster as dg

from assetgen_pipeline.defs.closing import refuse_beside_another
from assetgen_pipeline.defs.failures import as_failure, domain_errors_as_failures
from assetgen_pipeline.defs.metadata import hold_metadata, quote_metadata, requests_metadata
from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.defs.recovery import free_owner
from assetgen_pipeline.defs.runs import LANE_TAG, OWNER_TAG, inbox_object_of, run_is_live
from assetgen_pipeline.defs.stopping import obey, stops_here
from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline.domain.bucket_layout import owner_of
from assetgen_pipeline.domain.errors import BatchRejected, BudgetRefused, ClaimLost
from assetgen_pipeline.domain.image_request import BatchRequests
from assetgen_pipeline.domain.money import ZERO, total
from assetgen_pipeline.domain.outcome import batch_outcome
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.approvals import must_wait
from assetgen_pipeline.stages.batch_status import progress_of, write_status
from assetgen_pipeline.stages.close_batch import end_with_problem, refuse_batch
from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.stages.image_receipts import book_receipts
from assetgen_pipeline.stages.orders import scenes_ordered, stop_code
from assetgen_pipeline.stages.parse_batch import claim_batch, parse_batch
from assetgen_pipeline.stages.reserve_budget import (
    BudgetHold,
    missing_by_row,
    quote_batch,
    reserve_budget,
)
from assetgen_pipeline.stages.rollout import LaneChoice, choose_lane
from assetgen_pipeline.stages.services import Services
from assetgen_pipeline.stages.waiting_batches import begin_work

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
                inbox=inbox_object_of(context.run, bucket=store.bucket),
                run_id=context.run.run_id,
                is_live=lambda run_id: run_is_live(context.instance, run_id),
                limits=deployment.csv_limits,
                store=store,
                clock=clock,
            )
        except ClaimLost as lost:
            context.log.info(f"{lost}; nothing to do here")
            return
        except BatchRejected as rejected:
            _reject(rejected, context, services)
            raise
        begin_work(batch_id, store=store)
        stop = stop_code(batch_id, owner=owner_of(batch_id), provider="", store=store)
        if stop != "cancelled":
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
    if obey(stop, context, provider="", services=services, deployment=deployment):
        return
    with domain_errors_as_failures():
        try:
            batch = parse_batch(
                batch_id, claimed=claimed, limits=deployment.csv_limits, store=store
            )
        except BatchRejected as rejected:
            _reject(rejected, context, services)
            raise
    yield dg.Output(batch, metadata=requests_metadata(batch, bucket=store.bucket))


def _reject(rejected: BatchRejected, context: dg.AssetExecutionContext, services: Services) -> None:
    end_with_problem(
        context.partition_key,
        rejected,
        outcome=None,
        run_id=context.run.run_id,
        services=services,
    )


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
        chosen = choose_lane(batch_requests.batch_id, store=services.store, deployment=deployment)
        context.instance.add_run_tags(context.run.run_id, {LANE_TAG: chosen.lane})
        if batch_requests.mode == "dry_run":
            _price_only(context, batch_requests, chosen, services, deployment)
            return
    if stops_here(
        context, provider=chosen.provider, services=services, deployment=deployment
    ) or _waits_for_approval(context, batch_requests, chosen, services, deployment):
        return
    with domain_errors_as_failures():
        refuse_beside_another(
            context.instance, batch_requests.batch_id, context.run.run_id, services=services
        )
        free_owner(context.instance, batch_requests.owner, batch_requests.batch_id, services)
        attempts = services.ledger.attempts(batch_requests.batch_id)
        book_receipts(attempts, owner=batch_requests.owner, services=services)
        try:
            held = reserve_budget(
                batch_requests,
                run_id=context.run.run_id,
                catalogue=deployment.catalogue,
                provider=chosen.provider,
                model=chosen.model,
                lane=chosen.lane,
                ledger=services.ledger,
                worker=worker_identity(),
                scenes=scenes_ordered(batch_requests.batch_id, store=services.store),
            )
        except BudgetRefused as refused:
            refuse_batch(batch_requests, refused, run_id=context.run.run_id, services=services)
            raise as_failure(refused) from refused
        write_status(
            batch_requests.batch_id,
            BatchState.RESERVED,
            store=services.store,
            clock=services.clock,
            estimate_usd=held.estimate.usd(),
            reserved_usd=held.hold.amount.usd(),
            **progress_of(
                batch_outcome(
                    batch_requests, None, services.ledger.attempts(batch_requests.batch_id)
                )
            ),
        )
    yield dg.Output(held, metadata=hold_metadata(held))


def _waits_for_approval(
    context: dg.AssetExecutionContext,
    batch: BatchRequests,
    chosen: LaneChoice,
    services: Services,
    deployment: Deployment,
) -> bool:
    with domain_errors_as_failures():
        price = deployment.catalogue.price(chosen.provider, chosen.model)
        attempts = services.ledger.attempts(batch.batch_id)
        # What is delivered asks for no further money, so a finished batch never waits.
        estimate = total(missing_by_row(batch, attempts, price=price, scenes=None))
        waits = must_wait(batch, estimate, policy=deployment.approval, services=services)
    if waits:
        context.log.info(f"estimate {estimate}: waits for `assetgen approve {batch.batch_id}`")
    return waits


def _price_only(
    context: dg.AssetExecutionContext,
    batch: BatchRequests,
    chosen: LaneChoice,
    services: Services,
    deployment: Deployment,
) -> None:
    quote = quote_batch(
        batch,
        catalogue=deployment.catalogue,
        provider=chosen.provider,
        model=chosen.model,
        ledger=services.ledger,
    )
    context.log.info(f"estimate {quote.estimate}, {quote.headroom} left of {quote.limit} today")
    context.log_event(
        dg.AssetObservation(
            context.asset_key, partition=context.partition_key, metadata=quote_metadata(quote)
        )
    )
    write_status(
        batch.batch_id,
        BatchState.PRICED,
        store=services.store,
        clock=services.clock,
        estimate_usd=quote.estimate.usd(),
        reserved_usd=ZERO.usd(),
        **progress_of(batch_outcome(batch, None, ())),
        finished_at=services.clock.now().isoformat(),
    )


def owner_tags(batch_id: str) -> dict[str, str]:
    """The tags of every run of a batch; the owner's is what the queue limits."""
    return {OWNER_TAG: owner_of(batch_id), "assetgen/batch": batch_id}
