"""Cost facts: one row per requested image, for analysts; the ledger stays the truth.

A row stands on the budget day whose money its attempts used, so that a day's rows sum to
the ledger's day. An image with attempts on several days has a row on each: the one that
decided it says what became of it, the others say `retried`. So `count(*)` of the rows that
are not `retried` counts images, over any days.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from assetgen_pipeline.domain.budget import AttemptRecord
from assetgen_pipeline.domain.outcome import BatchOutcome, ImageOutcome, RowOutcome, image_outcome

RETRIED = "retried"

Fact = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table for analysts."""

    name: str
    type: str
    """`date`, `string`, `int32`, `int64`, `boolean`, `decimal(18,6)` or `timestamp`."""
    description: str


def columns(*rows: tuple[str, str, str]) -> tuple[Column, ...]:
    """A data dictionary from its lines."""
    return tuple(Column(name=name, type=kind, description=text) for name, kind, text in rows)


FACT_COLUMNS = columns(
    ("dt", "date", "Budget day, and the folder the file stands in; equals `budget_date`."),
    ("batch_id", "string", "The batch: one CSV."),
    ("owner", "string", "The budget account, the folder the CSV was dropped in."),
    ("scene_id", "string", "The row of the CSV."),
    ("row_number", "int32", "The row's place in the CSV, from 1."),
    ("variant", "int32", "Which of the row's 1 to 3 images."),
    ("provider", "string", "Who was asked last; empty where nobody was."),
    ("model", "string", "The model asked last; empty where none was."),
    (
        "status",
        "string",
        "delivered, failed, blocked or not_attempted; retried where another day's row says it.",
    ),
    ("attempts", "int32", "Attempts made on this budget day, reuse not counted."),
    ("cost_micros", "int64", "What they cost, in millionths of a US dollar; exact."),
    ("cost_usd", "decimal(18,6)", "The same in US dollars; exact."),
    (
        "cost_basis",
        "string",
        "usage, flat, assumed (at the ceiling, nobody can know), reused (free) or none.",
    ),
    ("price_version", "string", "The price book that the last attempt was priced with."),
    ("lane", "string", "stable or candidate, the side of a canary rollout."),
    ("spend_date", "date", "Local date of the last attempt's start."),
    ("budget_date", "date", "Local date on which the money was held."),
    ("latency_ms", "int32", "Time waited for the provider, over these attempts."),
    ("created_at", "timestamp", "When the last attempt was booked, UTC; null where there is none."),
    ("run_id", "string", "The Dagster run of the last attempt; empty where there is none."),
    ("image_uri", "string", "`gs://` address of the image; empty where there is none."),
)


def cost_facts(
    outcome: BatchOutcome,
    attempts: Iterable[AttemptRecord],
    *,
    received_on: date,
    bucket: str,
) -> dict[date, list[Fact]]:
    """The facts of a batch by budget day; images never attempted stand on `received_on`.

    That day is always there, also when it has no row (any more).
    """
    of_item: dict[str, dict[date, list[AttemptRecord]]] = defaultdict(lambda: defaultdict(list))
    for attempt in attempts:
        of_item[attempt.item_key][attempt.budget_date].append(attempt)
    facts: dict[date, list[Fact]] = {received_on: []}
    for row in outcome.rows:
        for image in row.images:
            days = of_item.get(f"{image.scene_id}/{image.variant}", {})
            for day, part, status in _by_day(row, image, days, received_on):
                facts.setdefault(day, []).append(_fact(outcome, part, status, day, bucket))
    return facts


def _by_day(
    row: RowOutcome,
    image: ImageOutcome,
    days: Mapping[date, list[AttemptRecord]],
    received_on: date,
) -> Iterator[tuple[date, ImageOutcome, str]]:
    """An image's part on each budget day, with its status there."""
    if not days:
        yield received_on, image, image.status.value
    for day, attempts in days.items():
        part = image_outcome(row.request, image.variant, attempts)
        decided = image.budget_date == day.isoformat()
        yield day, part, image.status.value if decided else RETRIED


def _fact(outcome: BatchOutcome, image: ImageOutcome, status: str, day: date, bucket: str) -> Fact:
    return {
        "dt": day,
        "batch_id": outcome.batch_id,
        "owner": outcome.owner,
        "scene_id": image.scene_id,
        "row_number": image.row_number,
        "variant": image.variant,
        "provider": image.provider,
        "model": image.model,
        "status": status,
        "attempts": image.attempts,
        "cost_micros": image.cost.micros,
        "cost_usd": Decimal(image.cost.usd()),
        "cost_basis": image.cost_basis,
        "price_version": image.price_version,
        "lane": image.lane,
        "spend_date": date.fromisoformat(image.spend_date) if image.spend_date else day,
        "budget_date": day,
        "latency_ms": image.latency_ms,
        "created_at": datetime.fromisoformat(image.created_at) if image.created_at else None,
        "run_id": image.run_id,
        "image_uri": f"gs://{bucket}/{image.image.object_name}" if image.image else "",
    }
