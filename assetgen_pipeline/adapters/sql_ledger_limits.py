"""Limits and the day's figures: what is set, what stands against it, what is left."""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from assetgen_pipeline.adapters.sql_ledger_days import DayBook, Decision
from assetgen_pipeline.adapters.sql_ledger_instants import from_us, to_us
from assetgen_pipeline.adapters.sql_ledger_journal import (
    PROJECT,
    apply_limits,
    day_row,
    owner_scope,
)
from assetgen_pipeline.adapters.sql_ledger_schema import attempt, budget_day, budget_limit
from assetgen_pipeline.domain.budget import AttemptState, BudgetDay, day_bounds, limit_in_force
from assetgen_pipeline.domain.money import ZERO, Money


def day(connection: Connection, book: DayBook, owner: str, *, now: datetime) -> BudgetDay:
    """The owner's budget today, also where nothing was reserved yet."""
    return days(connection, book, [owner], now=now)[0]


def days_in_use(connection: Connection, book: DayBook, *, now: datetime) -> list[BudgetDay]:
    """Today's budget of every owner that used it today or has a limit of its own."""
    today = book.today(connection, now)
    scopes = select(budget_day.c.scope).where(
        budget_day.c.budget_date == today, budget_day.c.scope != PROJECT
    )
    used = {scope.removeprefix(owner_scope("")) for scope in connection.scalars(scopes)}
    limited = set(connection.scalars(select(budget_limit.c.owner).distinct()))
    return days(connection, book, sorted(used | limited), now=now)


def project_day(connection: Connection, book: DayBook, *, now: datetime) -> BudgetDay | None:
    """The deployment's budget today, `None` where it has no limit."""
    if book.project_limit is None:
        return None
    today = book.today(connection, now)
    row = day_row(connection, PROJECT, today)
    assumed = sum(_assumed(connection, today).values())
    return _figures(book, "", today, row, book.project_limit, assumed)


def days(
    connection: Connection, book: DayBook, owners: Iterable[str], *, now: datetime
) -> list[BudgetDay]:
    """Today's budgets of these owners."""
    today = book.today(connection, now)
    assumed = _assumed(connection, today)
    return [
        _figures(
            book,
            owner,
            today,
            day_row(connection, owner_scope(owner), today),
            book.limit_of(connection, owner),
            assumed.get(owner, 0),
        )
        for owner in owners
    ]


def set_limit(
    connection: Connection,
    book: DayBook,
    owner: str,
    limit: Money,
    *,
    set_by: str,
    now: datetime,
) -> BudgetDay:
    """Change an owner's limit, for today as far as today allows."""
    values = {
        "owner": owner,
        "limit_micros": limit.micros,
        "set_by": set_by,
        "set_us": to_us(now),
    }
    connection.execute(insert(budget_limit).values(values))
    date = book.today(connection, now)
    limits = book.limits_of(connection, owner)
    book.ensure(connection, owner, date, limits)
    apply_limits(connection, owner, date, limits)
    present = day(connection, book, owner, now=now)
    decision = Decision(
        outcome="limit",
        owner=owner,
        budget_date=date,
        scope=owner_scope(owner),
        estimate=limit.micros,
        headroom=present.headroom.micros,
        limit=present.limit.micros,
        actor=set_by,
    )
    book.decide(connection, decision, now=now)
    return present


def _assumed(connection: Connection, today: date) -> dict[str, int]:
    statement = (
        select(attempt.c.owner, func.sum(attempt.c.cost_micros))
        .where(
            attempt.c.budget_date == today,
            attempt.c.state == AttemptState.ASSUMED.value,
        )
        .group_by(attempt.c.owner)
    )
    return {owner: int(micros) for owner, micros in connection.execute(statement)}


def _figures(
    book: DayBook, owner: str, today: date, row: Row[Any] | None, target: Money, assumed: int
) -> BudgetDay:
    if row is None:
        return BudgetDay(
            owner=owner,
            budget_date=today,
            limit=target,
            held=ZERO,
            settled=ZERO,
            assumed=ZERO,
            overrun=ZERO,
            resets_at=day_bounds(today, book.time_zone)[1],
        )
    return BudgetDay(
        owner=owner,
        budget_date=today,
        limit=limit_in_force(
            target, present=Money(row.limit_micros), taken=row.held_micros + row.settled_micros
        ),
        held=Money(row.held_micros),
        settled=Money(row.settled_micros),
        assumed=Money(assumed),
        overrun=Money(row.overrun_micros),
        resets_at=from_us(row.ends_at_us),
    )
