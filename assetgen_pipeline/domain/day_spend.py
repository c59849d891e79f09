"""A budget day in sums: what was spent by owner, provider and model, and what was refused."""

from datetime import date
from decimal import Decimal

from assetgen_pipeline.domain.cost_facts import Fact, columns
from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.money import ZERO, Money, total

DAY_COLUMNS = columns(
    ("dt", "date", "The budget day, and the folder the file stands in."),
    ("owner", "string", "The budget account."),
    ("provider", "string", "Who made the images; empty on the row of an owner's refusals."),
    ("model", "string", "The model; empty on the row of an owner's refusals."),
    ("images", "int64", "Images with an attempt or a reuse on that day."),
    ("delivered", "int64", "Those of them that were delivered."),
    ("attempts", "int64", "Attempts, reuse not counted."),
    ("settled_micros", "int64", "Spent, assumed attempts included, in millionths of a dollar."),
    ("settled_usd", "decimal(18,6)", "The same in US dollars."),
    ("assumed_micros", "int64", "The part of it that is assumed at the ceiling."),
    ("assumed_usd", "decimal(18,6)", "The same in US dollars."),
    ("refused_batches", "int64", "Batches that the budget refused that day."),
    ("refused_micros", "int64", "The most that those batches asked for."),
    ("refused_usd", "decimal(18,6)", "The same in US dollars."),
    ("limit_micros", "int64", "The owner's limit of that day, on each of its rows: never sum it."),
    ("limit_usd", "decimal(18,6)", "The same in US dollars."),
    ("is_final", "boolean", "The day is over, nothing is held any more and nothing is assumed."),
    ("ledger_entries", "int64", "Entries of the ledger's day that these sums rest on."),
)


class GroupSpend(Value):
    """What one owner spent on one model in a day; without a model: what was refused."""

    owner: str
    provider: str = ""
    model: str = ""
    limit: Money = ZERO
    images: int = 0
    delivered: int = 0
    attempts: int = 0
    settled: Money = ZERO
    """Spent, `assumed` included."""
    assumed: Money = ZERO
    refused_batches: int = 0
    refused: Money = ZERO


class DaySpend(Value):
    """One budget day of the whole deployment, as one read of the ledger found it."""

    budget_date: date
    groups: tuple[GroupSpend, ...]
    batches: dict[str, Money]
    """What each batch without an open hold spent on that day."""
    open_batches: frozenset[str]
    """Batches that still hold money of that day."""
    is_over: bool
    entries: int
    """Journal entries and decisions of the day: it grows with everything that happens to it."""

    @property
    def settled(self) -> Money:
        """What the day spent, assumed attempts included."""
        return total([group.settled for group in self.groups])

    @property
    def assumed(self) -> Money:
        """The part of it that is assumed."""
        return total([group.assumed for group in self.groups])

    @property
    def is_final(self) -> bool:
        """Whether no figure of the day is expected to change."""
        return self.is_over and not self.open_batches and self.assumed == ZERO


def day_rows(spend: DaySpend) -> list[Fact]:
    """The day's table, one row per owner, provider and model."""
    return [
        {
            "dt": spend.budget_date,
            "owner": group.owner,
            "provider": group.provider,
            "model": group.model,
            "images": group.images,
            "delivered": group.delivered,
            "attempts": group.attempts,
            **_amount("settled", group.settled),
            **_amount("assumed", group.assumed),
            "refused_batches": group.refused_batches,
            **_amount("refused", group.refused),
            **_amount("limit", group.limit),
            "is_final": spend.is_final,
            "ledger_entries": spend.entries,
        }
        for group in spend.groups
    ]


def _amount(name: str, money: Money) -> dict[str, object]:
    return {f"{name}_micros": money.micros, f"{name}_usd": Decimal(money.usd())}
