"""The two assets that fan out: references in chunks of URLs, images in shards of rows.

Pools bound the ops across runs (`reference_fetch`, `generation`); inside an op a fixed
number of workers bounds the requests. A slot is free between two ops, so that one slow
batch never holds every owner up.
https://docs.dagster.io/guides/build/assets/graph-backed-assets
"""

from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta

import dagster as dg

from assetgen_pipeline.defs.assets import OWNERS
from assetgen_pipeline.defs.failures import domain_errors_as_failures
from assetgen_pipeline.defs.metadata import references_metadata, shards_metadata
from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.domain.generation import PlannedImage, plan_images, plan_shards
from assetgen_pipeline.domain.image_request import BatchRequests, Value
from assetgen_pipeline.domain.references import ReferenceDecision
from assetgen_pipeline.stages.batch_files import read_artifact
from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.stages.fetch_references import (
    FetchedChunk,
    decide,
    fetch_chunk,
    load_packs,
    plan_reference_chunks,
)
from assetgen_pipeline.stages.generate_images import ShardJob, ShardReport, generate_shard
from assetgen_pipeline.stages.progress import Progress
from assetgen_pipeline.stages.reserve_budget import BudgetHold
from assetgen_pipeline.stages.services import Services


class ReferenceChunk(Value):
    """Unique URLs that one op fetches, and until when."""

    urls: tuple[str, ...]
    deadline: datetime


class Shard(Value):
    """The images that one op generates."""

    images: tuple[PlannedImage, ...]


class GenerationReport(Value):
    """All shards of a batch: the artifact of `generated_images`."""

    shards: tuple[ShardReport, ...]


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
    chunks = (
        [] if known else plan_reference_chunks(batch_requests, chunk=deployment.reference_chunk)
    )
    deadline = services.clock.now() + timedelta(seconds=deployment.reference_batch_deadline_s)
    for index, urls in enumerate(chunks):
        chunk = ReferenceChunk(urls=tuple(urls), deadline=deadline)
        yield dg.DynamicOutput(chunk, mapping_key=str(index))


@dg.op(pool="reference_fetch")
async def fetch_reference_chunk(
    context: dg.OpExecutionContext,
    chunk: ReferenceChunk,
    batch_requests: BatchRequests,
    services: dg.ResourceParam[Services],
    deployment: dg.ResourceParam[Deployment],
) -> FetchedChunk:
    """Fetch a chunk's URLs, a few at once."""
    left = (chunk.deadline - services.clock.now()).total_seconds()
    with domain_errors_as_failures():
        async with aclosing(deployment.open_fetcher()) as fetcher:
            fetched = await fetch_chunk(
                chunk.urls,
                owner=batch_requests.owner,
                fetcher=fetcher,
                codec=services.codec,
                store=services.store,
                clock=services.clock,
                policy=replace(
                    deployment.fetch_policy,
                    deadline_at_monotonic=services.clock.monotonic() + left,
                ),
            )
    context.log.info(f"{len(chunk.urls)} URLs, {fetched.requests} requests")
    return fetched


@dg.op
def merge_references(
    context: dg.OpExecutionContext,
    batch_requests: BatchRequests,
    chunks: list[FetchedChunk],
    services: dg.ResourceParam[Services],
) -> ReferenceDecision:
    """Decide each row's references, once for the life of the batch."""
    batch_id, store = context.partition_key, services.store
    with domain_errors_as_failures():
        decision = read_artifact(batch_id, "reference_images", ReferenceDecision, store=store)
        if decision is None:
            outcomes = {url: o for chunk in chunks for url, o in chunk.outcomes.items()}
            packs = load_packs(
                batch_requests, store=store, codec=services.codec, owner=batch_requests.owner
            )
            requests = sum(chunk.requests for chunk in chunks)
            decision = decide(batch_requests, outcomes, packs, requests)
    context.add_output_metadata(references_metadata(decision))
    return decision


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
    fetched = chunks.map(lambda chunk: fetch_reference_chunk(chunk, batch_requests))
    decision: ReferenceDecision = merge_references(batch_requests, fetched.collect())
    return decision


@dg.op(out=dg.DynamicOut(Shard))
def plan_generation(
    batch_requests: BatchRequests,
    budget_hold: BudgetHold,
    reference_images: ReferenceDecision,
    deployment: dg.ResourceParam[Deployment],
) -> Iterator[dg.DynamicOutput[Shard]]:
    """Name every image by its content address and cut them into shards of rows."""
    images = plan_images(
        batch_requests, reference_images, provider=budget_hold.provider, model=budget_hold.model
    )
    for index, shard in enumerate(plan_shards(images, shard_rows=deployment.shard_rows)):
        yield dg.DynamicOutput(Shard(images=shard), mapping_key=str(index))


@dg.op(pool="generation")
async def generate_shard_images(
    context: dg.OpExecutionContext,
    shard: Shard,
    batch_requests: BatchRequests,
    budget_hold: BudgetHold,
    services: dg.ResourceParam[Services],
    deployment: dg.ResourceParam[Deployment],
) -> ShardReport:
    """Generate a shard's images, paid once each."""
    progress = Progress(batch_requests, run_id=context.run_id, services=services)
    with domain_errors_as_failures():
        provider = deployment.open_provider(budget_hold.provider, budget_hold.model)
        async with aclosing(provider):
            report = await generate_shard(
                shard.images,
                job=ShardJob(
                    hold=budget_hold.hold,
                    run_id=context.run_id,
                    lane=budget_hold.lane,
                    catalogue=deployment.catalogue,
                    provider=provider,
                    services=services,
                    concurrency=deployment.generation_concurrency,
                    should_stop=progress.stop_code,
                    on_progress=progress.report,
                ),
            )
    context.log.info(report.model_dump_json())
    return report


@dg.op
def collect_shards(context: dg.OpExecutionContext, shards: list[ShardReport]) -> GenerationReport:
    """Gather what the shards did."""
    context.add_output_metadata(shards_metadata(shards))
    return GenerationReport(shards=tuple(shards))


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
    done = shards.map(lambda shard: generate_shard_images(shard, batch_requests, budget_hold))
    report: GenerationReport = collect_shards(done.collect())
    return report
