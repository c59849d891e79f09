"""Publish what the ledger says of costs: facts by batch, sums by day, and whether all agree."""

from datetime import date, datetime

from assetgen_pipeline.domain.bucket_layout import BatchFolder, owner_of
from assetgen_pipeline.domain.budget import AttemptRecord
from assetgen_pipeline.domain.cost_facts import cost_facts
from assetgen_pipeline.domain.day_spend import DaySpend
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.domain.image_request import (
    AspectRatio,
    BatchRequests,
    ImageRequest,
    ReferenceMode,
)
from assetgen_pipeline.domain.money import ZERO, Money, total
from assetgen_pipeline.domain.outcome import batch_outcome
from assetgen_pipeline.domain.references import ReferenceDecision
from assetgen_pipeline.stages.batch_files import read_artifact
from assetgen_pipeline.stages.services import Services

# Each turn finds something to write only where the ledger moved during the one before.
_TURNS = 10


def report_costs(batch_id: str, *, services: Services) -> list[str]:
    """Bring a batch's cost files in line with the ledger; returns the names of those rewritten.

    Call it again after any correction: only the file of the day that was corrected changes.
    It reads the ledger again after it wrote, so that of two callers the older never wins.

    Raises:
        StorageUnavailable, LedgerUnavailable: call again later.
    """
    batch = read_artifact(batch_id, "batch_requests", BatchRequests, store=services.store)
    batch = batch or _remembered(batch_id, services.ledger.attempts(batch_id))
    if batch is None:
        return []
    decision = read_artifact(batch_id, "reference_images", ReferenceDecision, store=services.store)
    received_on = services.ledger.budget_date(datetime.fromisoformat(batch.received_at))
    written: dict[str, None] = {}
    for _ in range(_TURNS):
        attempts = services.ledger.attempts(batch_id)
        facts = cost_facts(
            batch_outcome(batch, decision, attempts),
            attempts,
            received_on=received_on,
            bucket=services.store.bucket,
        )
        changed = [
            BatchFolder(batch_id).costs(day.isoformat())
            for day, rows in sorted(facts.items())
            if services.facts.publish(batch_id, day, rows)
        ]
        if not changed:
            return list(written)
        written |= dict.fromkeys(changed)
    message = f"the cost facts of {batch_id} do not keep what is written to them"
    raise StorageUnavailable(message)


def _remembered(batch_id: str, attempts: list[AttemptRecord]) -> BatchRequests | None:
    """A purged batch, as far as its attempts still tell of it."""
    if not attempts:
        return None
    variants: dict[tuple[int, str], int] = {}
    for attempt in attempts:
        row = (attempt.row_number, attempt.scene_id)
        variants[row] = max(attempt.variant, variants.get(row, 0))
    return BatchRequests(
        batch_id=batch_id,
        owner=owner_of(batch_id),
        mode="normal",
        header=(),
        received_at=attempts[0].intent_at.isoformat(),
        requests=tuple(
            ImageRequest(
                row_number=row_number,
                line=0,
                scene_id=scene_id,
                prompt="",
                variants=count,
                reference_urls=(),
                reference_mode=ReferenceMode.STYLE_ONLY,
                ref_pack_id="",
                aspect_ratio=AspectRatio.SQUARE,
                cells=(),
            )
            for (row_number, scene_id), count in sorted(variants.items())
        ),
    )


def report_day(day: date, *, services: Services) -> DaySpend:
    """Publish one budget day's sums, and mend the files of batches that lag behind the ledger.

    Raises:
        StorageUnavailable, LedgerUnavailable: call again later.
    """
    spend = services.ledger.day_spend(day)
    published = services.facts.batch_costs(day)
    for batch_id, cost in spend.batches.items():
        if published.get(batch_id) != cost:
            report_costs(batch_id, services=services)
    services.facts.publish_day(spend)
    return spend


def batch_disagreements(batch_id: str, shown: Money | None, *, services: Services) -> list[str]:
    """Where ledger, Parquet and the metadata (`shown`) differ on a batch, to the micro."""
    booked: dict[date, Money] = {}
    for attempt in services.ledger.attempts(batch_id):
        booked[attempt.budget_date] = booked.get(attempt.budget_date, ZERO) + (attempt.cost or ZERO)
    found = [
        _difference(f"{day}", cost, "Parquet", services.facts.batch_cost(batch_id, day))
        for day, cost in sorted(booked.items())
    ]
    found.append(_difference(batch_id, total(list(booked.values())), "the metadata", shown))
    return [difference for difference in found if difference]


def day_disagreements(
    day: date, shown: Money | None, entries: int, *, services: Services
) -> list[str]:
    """Where ledger, Parquet and the metadata (`shown`) differ on a budget day, to the micro.

    The metadata rests on so many `entries` of the ledger; where more came since, the day's
    sum is compared with the daily file alone: the ledger's is of another moment.
    """
    facts = services.facts
    spend = services.ledger.day_spend(day)
    published = facts.batch_costs(day)
    found = [
        _difference(batch_id, cost, "Parquet", published.get(batch_id))
        for batch_id, cost in sorted(spend.batches.items())
    ]
    if spend.entries == entries:
        found.append(_difference(f"{day}", spend.settled, "the metadata", shown))
        found.append(_difference(f"{day}", spend.settled, "the daily file", facts.day_cost(day)))
    elif facts.day_cost(day) != shown:
        found.append(f"{day}: the daily file and the metadata differ")
    return [difference for difference in found if difference]


def _difference(subject: str, booked: Money, other: str, said: Money | None) -> str:
    if said == booked:
        return ""
    return f"{subject}: the ledger says {booked}, {other} {'nothing' if said is None else said}"
