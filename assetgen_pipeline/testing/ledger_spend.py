"""A budget day in sums, from the books in memory."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

from assetgen_pipeline.domain.budget import AttemptRecord, AttemptState, Hold
from assetgen_pipeline.domain.day_spend import DaySpend, GroupSpend
from assetgen_pipeline.domain.errors import BudgetRefused
from assetgen_pipeline.domain.money import ZERO, Money, total
from assetgen_pipeline.testing.ledger_books import MemoryBooks
from assetgen_pipeline.testing.ledger_days import Held


class MemorySpend(MemoryBooks):
    """Books that count what happens to each day and remember refusals, without a lock."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - as the class before
        """Begin empty."""
        super().__init__(**settings)
        self._moves: Counter[date] = Counter()
        self._refusals: list[tuple[date, str, str, Money]] = []

    def _take(self, hold: Hold, micros: int) -> None:
        super()._take(hold, micros)
        self._moves[hold.budget_date] += 1

    def book(self, before: AttemptRecord, cost: int) -> None:
        """Move what an attempt costs from held to settled."""
        super().book(before, cost)
        self._moves[before.budget_date] += 1

    def end_hold(self, held: Held, state: str) -> Money:
        """End a hold and release its rest."""
        self._moves[held.value.budget_date] += 1
        return super().end_hold(held, state)

    @contextmanager
    def refusals_noted(self, owner: str, batch_id: str, amount: Money) -> Iterator[None]:
        """Remember a refusal that passes through."""
        try:
            yield
        except BudgetRefused:
            self._refusals.append((self.today(), owner, batch_id, amount))
            self._moves[self.today()] += 1
            raise

    def entries_since(self, since: date) -> dict[date, int]:
        """How often each day moved."""
        return {day: count for day, count in self._moves.items() if day >= since}

    def spend_of(self, day: date) -> DaySpend:
        """One budget day in sums, owners in name order."""
        owned = [
            (self._holds[one.hold_id].value.owner, one)
            for one in self._attempts.values()
            if one.budget_date == day
        ]
        refusals = [one for one in self._refusals if one[0] == day]
        limits = {
            owner: Money(self._day_of(owner, day).limit)
            for owner in {*(owner for owner, _ in owned), *(one[1] for one in refusals)}
        }
        groups = [*spent_by_group(owned, limits), *refused_by_owner(refusals, limits)]
        holds = (held.value for held in self._holds.values() if held.open)
        open_batches = {hold.batch_id for hold in holds if hold.budget_date == day}
        return DaySpend(
            budget_date=day,
            groups=tuple(sorted(groups, key=lambda g: (g.owner, g.provider, g.model))),
            batches={
                batch: total([one.cost or ZERO for _, one in owned if one.batch_id == batch])
                for batch in {one.batch_id for _, one in owned} - open_batches
            },
            open_batches=frozenset(open_batches),
            is_over=day < self.today(),
            entries=self.entries_since(day).get(day, 0),
        )


def spent_by_group(
    owned: Iterable[tuple[str, AttemptRecord]], limits: dict[str, Money]
) -> list[GroupSpend]:
    """What a day's attempts, each with its owner, come to by owner, provider and model."""
    groups: dict[tuple[str, str, str], list[AttemptRecord]] = {}
    for owner, one in owned:
        groups.setdefault((owner, one.provider, one.model), []).append(one)
    return [
        GroupSpend(
            owner=owner,
            provider=provider,
            model=model,
            limit=limits[owner],
            images=len(_items(found)),
            delivered=len(_items(one for one in found if one.image)),
            attempts=sum(one.cost_basis != "reused" for one in found),
            settled=total([one.cost or ZERO for one in found]),
            assumed=total([one.cost or ZERO for one in found if one.state is AttemptState.ASSUMED]),
        )
        for (owner, provider, model), found in groups.items()
    ]


def refused_by_owner(
    refusals: Iterable[tuple[date, str, str, Money]], limits: dict[str, Money]
) -> list[GroupSpend]:
    """What a day's refusals (day, owner, batch, estimate) come to by owner."""
    asked: dict[str, dict[str, Money]] = {}
    for _, owner, batch_id, estimate in refusals:
        batches = asked.setdefault(owner, {})
        batches[batch_id] = max(estimate, batches.get(batch_id, ZERO))
    return [
        GroupSpend(
            owner=owner,
            limit=limits[owner],
            refused_batches=len(batches),
            refused=total(list(batches.values())),
        )
        for owner, batches in asked.items()
    ]


def _items(attempts: Iterable[AttemptRecord]) -> set[tuple[str, str]]:
    return {(one.batch_id, one.item_key) for one in attempts}
