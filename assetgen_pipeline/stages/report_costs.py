"""Cost facts: one row per requested image, for analysts; the ledger stays the truth."""

from collections.abc import Mapping
from datetime import date
from itertools import groupby
from operator import itemgetter

from assetgen_pipeline.domain.outcome import BatchOutcome, ImageOutcome
from assetgen_pipeline.stages.services import Services


def cost_rows(
    outcome: BatchOutcome, *, bucket: str, budget_date: date, run_id: str
) -> list[Mapping[str, object]]:
    """The facts of a batch; images never attempted count to `budget_date`."""
    return [
        _fact(outcome, image, bucket=bucket, budget_date=budget_date, run_id=run_id)
        for image in outcome.images
    ]


def _fact(
    outcome: BatchOutcome,
    image: ImageOutcome,
    *,
    bucket: str,
    budget_date: date,
    run_id: str,
) -> Mapping[str, object]:
    day = image.budget_date or budget_date.isoformat()
    return {
        "dt": day,
        "batch_id": outcome.batch_id,
        "owner": outcome.owner,
        "scene_id": image.scene_id,
        "row_number": image.row_number,
        "variant": image.variant,
        "provider": image.provider,
        "model": image.model,
        "status": image.status.value,
        "attempts": image.attempts,
        "cost_micros": image.cost.micros,
        "cost_usd": image.cost.usd(),
        "cost_basis": image.cost_basis,
        "price_version": image.price_version,
        "lane": image.lane,
        "spend_date": image.spend_date or day,
        "budget_date": day,
        "latency_ms": image.latency_ms,
        "created_at": image.created_at,
        "run_id": image.run_id or run_id,
        "image_uri": f"gs://{bucket}/{image.image.object_name}" if image.image else "",
    }


def report_costs(
    outcome: BatchOutcome, *, budget_date: date, run_id: str, services: Services
) -> list[str]:
    """Write the batch's facts, one file per budget day it spent on; returns their names.

    Raises:
        StorageUnavailable: the bucket cannot be reached.
    """
    rows = cost_rows(outcome, bucket=services.store.bucket, budget_date=budget_date, run_id=run_id)
    by_day = groupby(sorted(rows, key=itemgetter("dt")), key=itemgetter("dt"))
    return [
        services.facts.publish(outcome.batch_id, date.fromisoformat(day), list(facts))
        for day, facts in by_day
    ]
