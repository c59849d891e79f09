"""The references of a batch, put together: which URLs there are, and what each row uses."""

from collections.abc import Iterable, Mapping

from assetgen_pipeline.domain.image_request import BatchRequests
from assetgen_pipeline.domain.references import (
    Fetched,
    PackContent,
    ReferenceDecision,
    decide_row,
)
from assetgen_pipeline.stages.fetch_references import FetchedChunk


def unique_urls(batch: BatchRequests) -> list[str]:
    """The batch's URLs in first-named order."""
    return list(dict.fromkeys(url for row in batch.requests for url in row.reference_urls))


def decide(
    batch: BatchRequests, chunks: Iterable[FetchedChunk], packs: Mapping[str, PackContent]
) -> ReferenceDecision:
    """Merge what was fetched into one decision per row."""
    urls, chunks = unique_urls(batch), list(chunks)
    outcomes = {
        urls[index]: outcome
        for chunk in chunks
        for index, outcome in enumerate(chunk.outcomes, start=chunk.first)
    }
    return ReferenceDecision(
        rows=tuple(decide_row(row, outcomes=outcomes, packs=packs) for row in batch.requests),
        named=sum(len(row.reference_urls) for row in batch.requests),
        unique_urls=len(urls),
        fetched=sum(isinstance(outcome, Fetched) for outcome in outcomes.values()),
        requests=sum(chunk.requests for chunk in chunks),
        revalidated=sum(chunk.revalidated for chunk in chunks),
        waited_s=sum(chunk.waited_s for chunk in chunks),
        packs_dropped={pack.pack_id: pack.dropped for pack in packs.values() if pack.dropped},
    )
