"""Letting batches in and out: reserve, take over, settle, limits and the day's figures."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from assetgen_pipeline.adapters.sql_ledger_bookings import assume_in_flight
from assetgen_pipeline.adapters.sql_ledger_days import (
    DayBook,
    Decision,
    Entry,
    from_us,
    headroom_of,
    insert_if_absent,
    owner_scope,
    to_us,
)
from assetgen_pipeline.adapters.sql_ledger_holds import (
    extend,
    free_micros,
    hold_value,
    locked_hold,
    open_of_batch,
)
from assetgen_pipeline.adapters.sql_ledger_schema import CLOSED, attempt, budget_limit, hold
from assetgen_pipeline.domain.budget import AttemptState, BudgetDay, Hold, day_bounds
from assetgen_pipeline.domain.errors import BudgetRefused, IdempotencyConflict, LedgerUnavailable
from assetgen_pipeline.domain.money import ZERO, Money

# Each turn loses only to another process that opened or ended a hold of the same batch.
_TURNS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a run asks for on behalf of its batch."""

    owner: str
    batch_id: str
    run_id: str
    amount: Money
    price_version: str


def reserve(connection: Connection, book: DayBook, wanted: Wanted, *, now: datetime) -> Hold:
    """Open a hold for a batch, or take over the one it has.

    Raises:
        BudgetRefused: the day's limit does not cover it.
        IdempotencyConflict: the batch's open hold is another owner's.
        LedgerUnavailable: other processes kept opening and ending holds of this batch.
    """
    for _ in range(_TURNS):
        found = connection.execute(open_of_batch(wanted.batch_id).with_for_update()).first()
        held = (
            _open(connection, book, wanted, now=now)
            if found is None
            else _take_over(connection, book, found, wanted, now=now)
        )
        if held is not None:
            _note_allowed(connection, book, held, wanted, now=now)
            return hold_value(held)
    raise LedgerUnavailable("others keep opening and ending holds of this batch")


def note_refusal(
    connection: Connection, book: DayBook, wanted: Wanted, refused: BudgetRefused, *, now: datetime
) -> None:
    """Keep the figures that a refusal rested on."""
    decision = Decision(
        outcome="refused",
        owner=wanted.owner,
        budget_date=book.today(connection, now),
        scope=refused.scope,
        estimate=wanted.amount.micros,
        headroom=refused.headroom.micros,
        limit=refused.limit.micros,
        batch_id=wanted.batch_id,
        run_id=wanted.run_id,
    )
    book.decide(connection, decision, now=now)


def settle(connection: Connection, book: DayBook, batch_id: str, *, now: datetime) -> Money:
    """End a batch's open hold and return what was released."""
    found = connection.execute(open_of_batch(batch_id).with_for_update()).first()
    if found is None:
        return ZERO
    row = assume_in_flight(connection, book, found, now=now)
    rest = free_micros(row)
    connection.execute(
        update(hold)
        .where(hold.c.hold_id == row.hold_id)
        .values(
            released_micros=hold.c.released_micros + rest,
            state=CLOSED,
            fence=hold.c.fence + 1,
            closed_us=to_us(now),
        )
    )
    entry = Entry(
        kind="release",
        key=f"release:{row.hold_id}",
        source="held",
        target="available",
        micros=rest,
        hold_id=row.hold_id,
    )
    book.post(connection, row.owner, row.budget_date, entry, now=now)
    return Money(rest)


def day(connection: Connection, book: DayBook, owner: str, *, now: datetime) -> BudgetDay:
    """The owner's budget today, also where nothing was reserved yet."""
    date = book.today(connection, now)
    row = book.row(connection, owner_scope(owner), date)
    if row is None:
        return BudgetDay(
            owner=owner,
            budget_date=date,
            limit=book.limit_of(connection, owner),
            held=ZERO,
            settled=ZERO,
            assumed=ZERO,
            overrun=ZERO,
            resets_at=day_bounds(date, book.time_zone)[1],
        )
    assumed = select(func.coalesce(func.sum(attempt.c.cost_micros), 0)).where(
        attempt.c.owner == owner,
        attempt.c.budget_date == date,
        attempt.c.state == AttemptState.ASSUMED.value,
    )
    return BudgetDay(
        owner=owner,
        budget_date=date,
        limit=Money(row.limit_micros),
        held=Money(row.held_micros),
        settled=Money(row.settled_micros),
        assumed=Money(int(connection.execute(assumed).scalar_one())),
        overrun=Money(row.overrun_micros),
        resets_at=from_us(row.ends_at_us),
    )


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
    book.ensure(connection, owner, date)
    book.apply_limits(connection, owner, date)
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


def _open(
    connection: Connection, book: DayBook, wanted: Wanted, *, now: datetime
) -> Row[Any] | None:
    date = book.today(connection, now)
    book.ensure(connection, wanted.owner, date)
    earlier = select(func.count()).where(hold.c.batch_id == wanted.batch_id)
    key = f"reserve:{wanted.batch_id}:{connection.execute(earlier).scalar_one() + 1}"
    hold_id = hashlib.sha256(key.encode()).hexdigest()[:32]
    row: dict[str, object] = {
        "hold_id": hold_id,
        "idempotency_key": key,
        "batch_id": wanted.batch_id,
        "owner": wanted.owner,
        "scope": owner_scope(wanted.owner),
        "budget_date": date,
        "run_id": wanted.run_id,
        "price_version": wanted.price_version,
        "amount_micros": wanted.amount.micros,
        "created_us": to_us(now),
    }
    # On PostgreSQL this waits for a twin; if the twin is committed, its hold is taken over.
    if not insert_if_absent(connection, hold, row):
        return None
    book.apply_limits(connection, wanted.owner, date)
    entry = Entry(
        kind="reserve",
        key=key,
        source="available",
        target="held",
        micros=wanted.amount.micros,
        hold_id=hold_id,
    )
    book.take(connection, wanted.owner, date, entry, now=now)
    return locked_hold(connection, hold_id)


def _take_over(
    connection: Connection, book: DayBook, found: Row[Any], wanted: Wanted, *, now: datetime
) -> Row[Any]:
    if found.owner != wanted.owner:
        raise IdempotencyConflict("the batch's open hold is another owner's")
    row = assume_in_flight(connection, book, found, now=now)
    connection.execute(
        update(hold)
        .where(hold.c.hold_id == row.hold_id)
        .values(fence=hold.c.fence + 1, run_id=wanted.run_id, price_version=wanted.price_version)
    )
    book.apply_limits(connection, row.owner, row.budget_date)
    extend(connection, book, row, wanted.amount.micros - free_micros(row), now=now)
    return locked_hold(connection, row.hold_id)


def _note_allowed(
    connection: Connection, book: DayBook, held: Row[Any], wanted: Wanted, *, now: datetime
) -> None:
    scope = owner_scope(wanted.owner)
    row = book.row(connection, scope, held.budget_date)
    if row is None:
        raise LedgerUnavailable("a hold's budget day is gone")
    decision = Decision(
        outcome="allowed",
        owner=wanted.owner,
        budget_date=held.budget_date,
        scope=scope,
        estimate=wanted.amount.micros,
        headroom=headroom_of(row).micros,
        limit=row.limit_micros,
        batch_id=wanted.batch_id,
        run_id=wanted.run_id,
    )
    book.decide(connection, decision, now=now)
