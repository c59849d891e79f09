"""How a hold begins: a look at what the batch had before, then its row."""

import hashlib
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Text,
    bindparam,
    exists,
    func,
    select,
)

from assetgen_pipeline.adapters.sql_ledger_days import (
    CARRIED,
    INSERTS,
    LIMIT_SET,
    NEWEST_US,
    DayBook,
    carried_values,
    insert_if_absent,
    warn_of_clock,
)
from assetgen_pipeline.adapters.sql_ledger_instants import to_us
from assetgen_pipeline.adapters.sql_ledger_journal import PROJECT, Limits, owner_scope
from assetgen_pipeline.adapters.sql_ledger_schema import (
    OPEN,
    LocalDate,
    budget_day,
    hold,
)
from assetgen_pipeline.domain.budget import budget_date_at
from assetgen_pipeline.domain.money import Money

_NEW_HOLD = {
    name: make(hold).on_conflict_do_nothing().returning(hold.c.hold_id)
    for name, make in INSERTS.items()
}


def _has_day(scope: Any) -> Any:  # noqa: ANN401 - SQLAlchemy's
    local = budget_day.c.budget_date == bindparam("b_local", type_=LocalDate)
    return exists().where(budget_day.c.scope == scope, local)


_of_batch = hold.c.batch_id == bindparam("b_batch", type_=Text)
_has_days = (_has_day(bindparam("b_scope", type_=Text)), _has_day(PROJECT))
_LOOK = select(
    CARRIED.label("carried"),
    LIMIT_SET.label("limit_micros"),
    NEWEST_US.label("newest_us"),
    _has_days[0].label("has_owner_day"),
    _has_days[1].label("has_project_day"),
    select(hold.c.hold_id)
    .where(_of_batch, hold.c.state == OPEN)
    .scalar_subquery()
    .label("hold_id"),
    select(func.count()).where(_of_batch).scalar_subquery().label("holds"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a run asks for on behalf of its batch."""

    owner: str
    batch_id: str
    run_id: str
    amount: Money
    price_version: str
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A hold that was just inserted, with nothing taken for it yet."""

    hold_id: str
    key: str
    day: date
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a reservation finds before it begins; nothing of it is locked."""

    day: date
    limits: Limits
    has_day: bool
    hold_id: str | None
    holds: int
    """How many holds the batch has had."""


def look(connection: Connection, book: DayBook, wanted: Wanted, *, now: datetime) -> Opening:
    """Everything a reservation needs to know, in one look; alarms where the clock went back."""
    local = budget_date_at(now, book.time_zone)
    values = carried_values(book, now) | {
        "b_owner": wanted.owner,
        "b_scope": owner_scope(wanted.owner),
        "b_local": local,
        "b_batch": wanted.batch_id,
    }
    found = connection.execute(_LOOK, values).one()
    warn_of_clock(found.newest_us, now)
    return Opening(
        day=found.carried or local,
        limits=book.limits(found.limit_micros),
        has_day=bool(found.has_owner_day and found.has_project_day) and found.carried is None,
        hold_id=found.hold_id,
        holds=found.holds,
    )


def open_hold(
    connection: Connection, book: DayBook, found: Opening, wanted: Wanted, *, now: datetime
) -> Opened | None:
    """A new hold; `None` where another process opened one meanwhile."""
    if not found.has_day:
        book.ensure(connection, wanted.owner, found.day, found.limits)
    hold_id, key = named(wanted, found.holds + 1)
    row: dict[str, object] = {
        "hold_id": hold_id,
        "idempotency_key": key,
        "batch_id": wanted.batch_id,
        "owner": wanted.owner,
        "scope": owner_scope(wanted.owner),
        "budget_date": found.day,
        "run_id": wanted.run_id,
        "worker": wanted.worker,
        "price_version": wanted.price_version,
        "amount_micros": wanted.amount.micros,
        "created_us": to_us(now),
    }
    # On PostgreSQL this waits for a twin; if the twin is committed, its hold is taken over.
    if not insert_if_absent(connection, _NEW_HOLD, row):
        return None
    return Opened(hold_id=hold_id, key=key, day=found.day, limits=found.limits)


def named(wanted: Wanted, number: int) -> tuple[str, str]:
    """The id and the key of the batch's n-th hold."""
    key = f"reserve:{wanted.batch_id}:{number}"
    return hashlib.sha256(key.encode()).hexdigest()[:32], key
