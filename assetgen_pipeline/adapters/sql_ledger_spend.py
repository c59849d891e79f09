"""A budget day in sums, and how far each day's record has come."""

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, Row, case, distinct, exists, func, select

from assetgen_pipeline.adapters.sql_ledger_days import DayBook
from assetgen_pipeline.adapters.sql_ledger_journal import PROJECT, owner_scope
from assetgen_pipeline.adapters.sql_ledger_schema import (
    OPEN,
    attempt,
    budget_day,
    budget_decision,
    hold,
)
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.day_spend import DaySpend, GroupSpend
from assetgen_pipeline.domain.money import Money


def day_spend(connection: Connection, book: DayBook, day: date, *, now: datetime) -> DaySpend:
    """One budget day in sums, owners in name order."""
    scopes = select(budget_day.c.scope, budget_day.c.limit_micros)
    limits = {
        scope: Money(limit)
        for scope, limit in connection.execute(scopes.where(budget_day.c.budget_date == day))
    }

    def limit_of(owner: str) -> Money:
        return limits.get(owner_scope(owner)) or book.limit_of(connection, owner)

    held = select(hold.c.batch_id).where(hold.c.state == OPEN, hold.c.budget_date == day)
    spent = connection.execute(
        _spent_by_batch(day, [scope for scope in limits if scope != PROJECT])
    )
    parts = spent.all()
    groups = [
        *(_spend_of(group, rows, limit_of(group[0])) for group, rows in _grouped(parts).items()),
        *(
            GroupSpend(
                owner=row.owner,
                limit=limit_of(row.owner),
                refused_batches=row.batches,
                refused=Money(int(row.asked)),
            )
            for row in connection.execute(_refused_by_owner(day))
        ),
    ]
    return DaySpend(
        budget_date=day,
        groups=tuple(sorted(groups, key=lambda group: (group.owner, group.provider, group.model))),
        batches=_closed_batches(parts),
        open_batches=frozenset(connection.scalars(held)),
        is_over=day < book.today(connection, now),
        entries=day_entries(connection, day).get(day, 0),
    )


def day_entries(connection: Connection, since: date) -> dict[date, int]:
    """How many entries each budget day has, from `since` on."""
    days, decisions = budget_day.c, budget_decision.c
    entries: Counter[date] = Counter()
    versions = select(days.budget_date, days.version).where(
        days.scope == PROJECT, days.budget_date >= since
    )
    decided = (
        select(decisions.budget_date, func.count())
        .where(decisions.budget_date >= since)
        .group_by(decisions.budget_date)
    )
    for statement in (versions, decided):
        for day, count in connection.execute(statement):
            entries[day] += count
    return dict(entries)


def _spent_by_batch(day: date, scopes: Sequence[str]) -> Any:  # noqa: ANN401 - SQLAlchemy's
    one = attempt.c
    # By owner first, because the index begins with it.
    owners = [scope.removeprefix(owner_scope("")) for scope in scopes]
    is_open = exists().where(
        hold.c.batch_id == one.batch_id, hold.c.state == OPEN, hold.c.budget_date == day
    )
    assumed = case((one.state == AttemptState.ASSUMED.value, one.cost_micros), else_=0)
    delivered = case((one.image_json.is_not(None), one.item_key))
    return (
        select(
            one.batch_id,
            one.owner,
            one.provider,
            one.model,
            func.count(distinct(one.item_key)).label("images"),
            func.count(distinct(delivered)).label("delivered"),
            func.sum(case((one.cost_basis == "reused", 0), else_=1)).label("attempts"),
            func.coalesce(func.sum(one.cost_micros), 0).label("settled"),
            func.coalesce(func.sum(assumed), 0).label("assumed"),
            is_open.label("is_open"),
        )
        .where(one.owner.in_(owners), one.budget_date == day)
        .group_by(one.batch_id, one.owner, one.provider, one.model)
    )


def _refused_by_owner(day: date) -> Any:  # noqa: ANN401 - SQLAlchemy's
    one = budget_decision.c
    batches = (
        select(one.owner, one.batch_id, func.max(one.estimate_micros).label("asked"))
        .where(one.budget_date == day, one.outcome == "refused")
        .group_by(one.owner, one.batch_id)
        .subquery()
    )
    return select(
        batches.c.owner, func.count().label("batches"), func.sum(batches.c.asked).label("asked")
    ).group_by(batches.c.owner)


def _grouped(parts: Sequence[Row[Any]]) -> dict[tuple[str, str, str], list[Row[Any]]]:
    groups: dict[tuple[str, str, str], list[Row[Any]]] = {}
    for row in parts:
        groups.setdefault((row.owner, row.provider, row.model), []).append(row)
    return groups


def _spend_of(group: tuple[str, str, str], rows: list[Row[Any]], limit: Money) -> GroupSpend:
    owner, provider, model = group
    return GroupSpend(
        owner=owner,
        provider=provider,
        model=model,
        limit=limit,
        images=sum(row.images for row in rows),
        delivered=sum(row.delivered for row in rows),
        attempts=sum(int(row.attempts) for row in rows),
        settled=Money(sum(int(row.settled) for row in rows)),
        assumed=Money(sum(int(row.assumed) for row in rows)),
    )


def _closed_batches(parts: Sequence[Row[Any]]) -> dict[str, Money]:
    spent: Counter[str] = Counter()
    for row in parts:
        if not row.is_open:
            spent[row.batch_id] += int(row.settled)
    return {batch: Money(micros) for batch, micros in spent.items()}
