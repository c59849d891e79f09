"""The two assets that fan out: references in chunks of URLs, images in shards of rows.

Pools bound the ops across runs (`reference_fetch`, `generation`); inside an op a fixed
number of workers bounds the requests. A slot is free between two ops, so that one slow
batch never holds every owner up.
https://docs.dagster.io/guides/build/assets/graph-backed-assets
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing

import dagster as dg

from assetgen_pipeline.defs.assets import OWNERS
from assetgen_pipeline.defs.closing import refuse_beside_another
from assetgen_pipeline.defs.failures import domain_errors_as_failures
from assetgen_pipeline.defs.metadata import references_metadata, shards_metadata
from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.defs.purge_runs import stand_aside
from assetgen_pipeline.defs.stopping import obey
from assetgen_pipeline.defs.termination import stopping_gently
from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline.domain.bucket_layout import BatchFolder, owner_of
from assetgen_pipeline.domain.generation import PlannedImage, plan_images, plan_shards
from assetgen_pipeline.domain.image_request import BatchRequests, Value
from assetgen_pipeline.domain.references import ReferenceDecision
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_files import read_artifact
from assetgen_pipeline.stages.batch_status import write_status
from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.stages.fetch_history import add_to_history, read_history
from assetgen_pipeline.stages.fetch_references import (
    FetchedChunk,
    chunk_summary,
    fetch_chunk,
)
from assetgen_pipeline.stages.generate_images import generate_shard
from assetgen_pipeline.stages.merge_references import decide, unique_urls
from assetgen_pipeline.stages.orders import scenes_ordered, stop_code
from assetgen_pipeline.stages.progress import Progress
from assetgen_pipeline.stages.reference_packs import load_packs
from assetgen_pipeline.stages.reference_shelf import ReferenceShelf
from assetgen_pipeline.stages.rejoin_hold import hold_of_run
from assetgen_pipeline.stages.reserve_budget import BudgetHold
from assetgen_pipeline.stages.services import Services
from assetgen_pipeline.stages.shard_job import shard_job
from assetgen_pipeline.stages.shard_report import GenerationReport, ShardReport
from assetgen_pipeline.stages.stage_progress import advance, write_progress

# Whichever of them stopped a step, the first one here is obeyed.
_STOP_CODES = ("cancelled", "paused", "interrupted")


class ReferenceChunk(Value):
    """Unique URLs that one op fetches, and where they begin among the batch's."""

    first: int
    urls: tuple[str, ...]


class Shard(Value):
    """The images that one op generates."""

    images: tuple[PlannedImage, ...]
    alone: bool
    """Whether the batch has no other shard."""
    batch_rows: int
    batch_images: int
    failed_by_reference: int
    """Images of the batch that fail without an attempt."""


@dg.op(out=dg.DynamicOut(ReferenceChunk))
def plan_references(
    context: dg.OpExecutionContext,
    batch_requests: BatchRequests,
    budget_hold: BudgetHold,
    services: dg.ResourceParam[Services],
    deployment: dg.ResourceParam[Deployment],
) -> Iterator[dg.DynamicOutput[ReferenceChunk]]:
    """Cut the batch's unique URLs into chunks; none where the decision is made already."""
    del budget_hold  # Money first: nothing is fetched for a batch that is refused.
    batch_id = context.partition_key
    known = read_artifact(batch_id, "reference_images", ReferenceDecision, store=services.store)
    urls = [] if known else unique_urls(batch_requests)
    write_progress(batch_id, "references", services=services, total=len(urls))
    for first in range(0, len(urls), deployment.reference_chunk):
        chunk = urls[first : first + deployment.reference_chunk]
        yield dg.DynamicOutput(
            ReferenceChunk(first=first, urls=tuple(chunk)), mapping_key=str(first)
        )


@dg.op(pool="reference_fetch")
async def fetch_reference_chunk(
    context: dg.OpExecutionContext,
    chunk: ReferenceChunk,
    budget_hold: BudgetHold,
    services: dg.ResourceParam[Services],
    deployment: dg.ResourceParam[Deployment],
) -> FetchedChunk:
    """Fetch a chunk's URLs, a few at once."""
    batch_id, store = context.partition_key, services.store
    await stand_aside(
        context, provider=budget_hold.provider, services=services, deployment=deployment
    )
    with domain_errors_as_failures():
        deployment.memory.stop(
            context.run_id,
            stop_code(
                batch_id, owner=owner_of(batch_id), provider=budget_hold.provider, store=store
            ),
        )
    stopped = deployment.memory.stop_code(context.run_id)
    if stopped:
        return FetchedChunk.unfetched(chunk.first, stopped)
    history_name = BatchFolder(batch_id).fetch_history(context.run_id)
    with domain_errors_as_failures():
        shelf = ReferenceShelf(owner_of(batch_id), store=store, codec=services.codec)
        async with aclosing(deployment.open_fetcher()) as fetcher:
            fetched, learnt = await fetch_chunk(
                chunk.urls,
                first=chunk.first,
                shelf=shelf,
                fetcher=fetcher,
                clock=services.clock,
                policy=deployment.fetch_policy,
                history=read_history(history_name, store=store),
            )
        shelf.remember()
        add_to_history(history_name, learnt, store=store)
    advance(batch_id, len(chunk.urls), services=services)
    context.log.info(chunk_summary(fetched))
    return fetched


@dg.op(out=dg.Out(ReferenceDecision, is_required=False))
async def merge_references(
    context: dg.OpExecutionContext,
    batch_requests: BatchRequests,
    budget_hold: BudgetHold,
    chunks: list[FetchedChunk],
    services: dg.ResourceParam[Services],
    deployment: dg.ResourceParam[Deployment],
) -> AsyncIterator[dg.Output[ReferenceDecision]]:
    """Decide each row's references, once for the life of the batch; or the run ends here."""
    batch_id, store = context.partition_key, services.store
    await stand_aside(
        context, provider=budget_hold.provider, services=services, deployment=deployment
    )
    stopped = deployment.memory.stop_code(context.run_id)
    if obey(
        _first_stop([stopped, *(chunk.stopped for chunk in chunks)]),
        context,
        provider=budget_hold.provider,
        services=services,
        deployment=deployment,
    ):
        return
    with domain_errors_as_failures():
        decision = read_artifact(batch_id, "reference_images", ReferenceDecision, store=store)
        if decision is None:
            packs = await load_packs(batch_requests, store=store, codec=services.codec)
            decision = decide(batch_requests, chunks, packs)
    yield dg.Output(decision, metadata=references_metadata(decision))


@dg.graph_asset(
    partitions_def=batches,
    group_name="batches",
    kinds={"gcs"},
    owners=OWNERS,
    description="Each row's reference images: fetched, re-encoded, merged with its pack's.",
)
def reference_images(batch_requests: BatchRequests, budget_hold: BudgetHold) -> ReferenceDecision:
    """Fetch unique URLs in chunks, then decide per row."""
    chunks = plan_references(batch_requests, budget_hold)
    fetched = chunks.map(lambda chunk: fetch_reference_chunk(chunk, budget_hold))
    decision: ReferenceDecision = merge_references(batch_requests, budget_hold, fetched.collect())
    return decision


@dg.op(out=dg.DynamicOut(Shard))
def plan_generation(
    context: dg.OpExecutionContext,
    batch_requests: BatchRequests,
    budget_hold: BudgetHold,
    reference_images: ReferenceDecision,
    services: dg.ResourceParam[Services],
    deployment: dg.ResourceParam[Deployment],
) -> Iterator[dg.DynamicOutput[Shard]]:
    """Name every image by its content address and cut them into shards of rows."""
    with domain_errors_as_failures():
        refuse_beside_another(
            context.instance, context.partition_key, context.run_id, services=services
        )
        model = deployment.catalogue.price(budget_hold.provider, budget_hold.model)
    images = plan_images(
        batch_requests,
        reference_images,
        provider=model.provider,
        model=model.model,
        options=model.options.fingerprint(),
    )
    batch_id, store, clock = batch_requests.batch_id, services.store, services.clock
    # From here on calls may be in flight, which a cancel lets finish.
    write_status(batch_id, BatchState.RUNNING, store=store, clock=clock, run_id=context.run_id)
    scenes = scenes_ordered(batch_id, store=store)
    wanted = tuple(i for i in images if scenes is None or i.scene_id in scenes)
    shards = plan_shards(wanted, shard_rows=deployment.shard_rows)
    for index, planned in enumerate(shards):
        shard = Shard(
            images=planned,
            alone=len(shards) == 1,
            batch_rows=len(batch_requests.requests),
            batch_images=batch_requests.images_requested,
            failed_by_reference=batch_requests.images_requested - len(images),
        )
        yield dg.DynamicOutput(shard, mapping_key=str(index))


@dg.op(pool="generation")
async def generate_shard_images(
    context: dg.OpExecutionContext,
    shard: Shard,
    budget_hold: BudgetHold,
    services: dg.ResourceParam[Services],
    deployment: dg.ResourceParam[Deployment],
) -> ShardReport:
    """Generate a shard's images, paid once each."""
    batch_id, run_id, memory = context.partition_key, context.run_id, deployment.memory
    await stand_aside(
        context, provider=budget_hold.provider, services=services, deployment=deployment
    )
    progress = memory.progress(
        batch_id,
        run_id,
        lambda: Progress(
            batch_id,
            provider=budget_hold.provider,
            rows=shard.batch_rows,
            images=shard.batch_images,
            failed_by_reference=shard.failed_by_reference,
            run_id=run_id,
            services=services,
        ),
    )
    with domain_errors_as_failures():
        held = hold_of_run(
            budget_hold,
            run_id=run_id,
            catalogue=deployment.catalogue,
            services=services,
            worker=worker_identity(),
            see_alone=lambda: refuse_beside_another(
                context.instance, batch_id, run_id, services=services
            ),
        )
        job = shard_job(
            held,
            progress,
            run_id=run_id,
            alone=shard.alone,
            deployment=deployment,
            services=services,
        )
        progress.stop(memory.stop_code(run_id))
        with progress.working_on(shard.images), stopping_gently(progress.interrupt):
            # Before the first image: it can take half a minute, and an order to stop may be there.
            progress.report()
            async with aclosing(job.provider):
                report = await generate_shard(shard.images, job=job)
    context.log.info(report.model_dump_json())
    return report


@dg.op(out=dg.Out(GenerationReport, is_required=False))
def collect_shards(
    context: dg.OpExecutionContext,
    shards: list[ShardReport],
    budget_hold: BudgetHold,
    services: dg.ResourceParam[Services],
    deployment: dg.ResourceParam[Deployment],
) -> Iterator[dg.Output[GenerationReport]]:
    """Gather what the shards did; the end of the run where an operator stopped them."""
    if obey(
        _first_stop(shard.stopped.code for shard in shards if shard.stopped is not None),
        context,
        provider=budget_hold.provider,
        services=services,
        deployment=deployment,
    ):
        return
    report = GenerationReport(run_id=context.run_id, shards=tuple(shards))
    yield dg.Output(report, metadata=shards_metadata(shards))


def _first_stop(codes: Iterable[str]) -> str:
    stopped = set(codes)
    return next((code for code in _STOP_CODES if code in stopped), "")


@dg.graph_asset(
    partitions_def=batches,
    group_name="batches",
    kinds={"gcs", "pillow"},
    owners=OWNERS,
    description="The images, one attempt at a time in the ledger, stored under their content address.",
)
def generated_images(
    batch_requests: BatchRequests, budget_hold: BudgetHold, reference_images: ReferenceDecision
) -> GenerationReport:
    """Plan shards, generate each, gather."""
    shards = plan_generation(batch_requests, budget_hold, reference_images)
    done = shards.map(lambda shard: generate_shard_images(shard, budget_hold))
    report: GenerationReport = collect_shards(done.collect(), budget_hold)
    return report
