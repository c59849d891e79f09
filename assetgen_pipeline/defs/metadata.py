"""Metadata: one vocabulary of keys; plots and queries rest on these names.

Assets with costs carry numbers only, because a plot loads every entry of 120 partitions.
"""

from collections.abc import Sequence

import dagster as dg

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.cost_facts import Column
from assetgen_pipeline.domain.day_spend import DaySpend
from assetgen_pipeline.domain.delivery import SignedUrls
from assetgen_pipeline.domain.image_request import BatchRequests
from assetgen_pipeline.domain.money import MICROS_PER_USD, Money, total
from assetgen_pipeline.domain.outcome import BatchOutcome
from assetgen_pipeline.domain.references import ReferenceDecision
from assetgen_pipeline.stages.refresh_published import Refreshed
from assetgen_pipeline.stages.reserve_budget import BudgetHold, Quote
from assetgen_pipeline.stages.shard_report import ShardReport

ROWS = "dagster/partition_row_count"
_PREVIEW_ROWS = 10
_INLINE_CHARACTERS = 999

Metadata = dict[str, dg.MetadataValue | str | int | float]


def dollars(money: Money) -> float:
    """An amount for display and plots; the exact one travels as micros."""
    return money.micros / MICROS_PER_USD


def requests_metadata(batch: BatchRequests, *, bucket: str) -> Metadata:
    """Of `batch_requests`: rows, images and the first scenes."""
    rows = [
        dg.TableRecord(
            {
                "scene_id": request.scene_id,
                "variants": request.variants,
                "prompt": request.prompt[:80],
            }
        )
        for request in batch.requests[:_PREVIEW_ROWS]
    ]
    return {
        ROWS: len(batch.requests),
        "images_requested": batch.images_requested,
        "owner": batch.owner,
        "mode": batch.mode,
        "request": f"gs://{bucket}/{BatchFolder(batch.batch_id).request}",
        "preview": dg.MetadataValue.table(rows),
    }


def hold_metadata(hold: BudgetHold) -> Metadata:
    """Of `budget_hold`: what was held, and at which prices."""
    return {
        "estimate_usd": dollars(hold.estimate),
        "estimate_micros": hold.estimate.micros,
        "held_usd": dollars(hold.hold.amount),
        "held_micros": hold.hold.amount.micros,
        "budget_date": hold.hold.budget_date.isoformat(),
        "provider": hold.provider,
        "model": hold.model,
        "price_version": hold.price_version,
    }


def quote_metadata(quote: Quote) -> Metadata:
    """Of a dry run's `budget_hold`: its price against what the day has left."""
    return {
        "estimate_usd": dollars(quote.estimate),
        "headroom_usd": dollars(quote.headroom),
        "limit_usd": dollars(quote.limit),
        "resets_at": quote.resets_at.isoformat(),
        "price_version": quote.price_version,
    }


def references_metadata(decision: ReferenceDecision) -> Metadata:
    """Of `reference_images`: what was named, fetched, gone without and refused."""
    saved = 1 - decision.unique_urls / decision.named if decision.named else 0.0
    return {
        ROWS: len(decision.rows),
        "references_named": decision.named,
        "unique_urls": decision.unique_urls,
        "references_fetched": decision.fetched,
        "requests": decision.requests,
        "revalidated": decision.revalidated,
        "slot_wait_s": round(decision.waited_s, 3),
        "deduplication_rate": round(saved, 4),
        "rows_without_a_reference": sum(bool(row.unfetched) for row in decision.rows),
        "rows_with_a_reference_dropped": sum(bool(row.dropped) for row in decision.rows),
        "rows_failed": sum(row.failure_code is not None for row in decision.rows),
    }


def shards_metadata(reports: list[ShardReport]) -> Metadata:
    """Of `generated_images`: images by what happened to them."""
    return {
        ROWS: sum(report.images for report in reports),
        "shards": len(reports),
        "generated": sum(report.generated for report in reports),
        "reused": sum(report.reused for report in reports),
        "already_delivered": sum(report.already_delivered for report in reports),
        "failed": sum(report.failed for report in reports),
        "not_attempted": sum(report.not_attempted for report in reports),
    }


def delivery_metadata(
    outcome: BatchOutcome, *, bucket: str, links: list[str], sheet: str
) -> Metadata:
    """Of `delivered_images`: counts, thumbnails and where the results are.

    `links` and `sheet` are addresses for a browser that hold no signature.
    """
    folder = BatchFolder(outcome.batch_id)
    preview = " ".join(f"![]({link})" for link in links)
    counts = outcome.counts()
    metadata: Metadata = {
        ROWS: len(outcome.rows),
        "images_delivered": counts["delivered"],
        "images_failed": counts["failed"] + counts["blocked"],
        "images_not_attempted": counts["not_attempted"],
        "contact_sheet": dg.MetadataValue.url(sheet),
        "results_csv": f"gs://{bucket}/{folder.results}",
        "manifest": f"gs://{bucket}/{folder.manifest}",
    }
    if links and len(preview) <= _INLINE_CHARACTERS:
        metadata["preview"] = dg.MetadataValue.md(preview)
    return metadata


def signing_metadata(signed: SignedUrls) -> Metadata:
    """Of `signed_urls` by a batch's own run: how many, by whom, until when; never a URL."""
    return {
        "urls": signed.urls,
        "signer": signed.signer,
        "urls_expire_at": signed.expires_at,
        "cause": signed.refreshes[-1].cause.value,
    }


def refresh_metadata(refreshed: Refreshed) -> Metadata:
    """Of `signed_urls` by a refresh: as `signing_metadata`, and which end it replaced."""
    return {
        "urls": refreshed.urls,
        "signer": refreshed.signer,
        "urls_expire_at": refreshed.expires_at,
        "cause": refreshed.cause.value,
        "old_expires_at": refreshed.old_expires_at,
    }


def batch_cost_metadata(outcome: BatchOutcome, estimate: Money) -> Metadata:
    """Of `batch_costs`: numbers only, so that the plots stay light."""
    counts = outcome.counts()
    spent = outcome.spent()
    delivered = counts["delivered"]
    return {
        ROWS: counts["requested"],
        "cost_usd": dollars(spent),
        "cost_micros": spent.micros,
        "estimate_usd": dollars(estimate),
        "images_delivered": delivered,
        "images_failed": counts["failed"] + counts["blocked"],
        "attempts": sum(image.attempts for image in outcome.images),
        "cost_per_image_usd": dollars(spent) / delivered if delivered else 0.0,
    }


def day_cost_metadata(spend: DaySpend) -> Metadata:
    """Of `cost_daily`: numbers only, so that the plots stay light; few, so that they are found."""
    groups = spend.groups
    return {
        ROWS: len(groups),
        "assumed_usd": dollars(spend.assumed),
        "attempts": sum(group.attempts for group in groups),
        "cost_usd": dollars(spend.settled),
        "cost_micros": spend.settled.micros,
        "images": sum(group.images for group in groups),
        "images_delivered": sum(group.delivered for group in groups),
        "refused_batches": sum(group.refused_batches for group in groups),
        "refused_usd": dollars(total([group.refused for group in groups])),
        "open_batches": len(spend.open_batches),
        "ledger_entries": spend.entries,
    }


def table_schema(columns: Sequence[Column]) -> dg.TableSchema:
    """A data dictionary, as the catalogue shows it."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(column.name, type=column.type, description=column.description)
            for column in columns
        ]
    )
