"""The journal, and the days that it moves: the one place where a figure of a day changes.

One statement moves an owner's day and the deployment's. It locks them in that order first, so
that two transactions never wait for one another, and its guard judges the rows as locked:
what two transactions read before does not matter.

Statements are built once: building one costs several times what running it does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Row,
    Subquery,
    Text,
    Update,
    bindparam,
    case,
    insert,
    select,
    update,
)

from assetgen_pipeline.adapters.sql_ledger_instants import from_us, to_us
from assetgen_pipeline.adapters.sql_ledger_schema import LocalDate, budget_day, journal
from assetgen_pipeline.domain.budget import limit_in_force
from assetgen_pipeline.domain.errors import BudgetRefused, LedgerError
from assetgen_pipeline.domain.money import Money

PROJECT = "project"
SCOPES = 2


def owner_scope(owner: str) -> str:
    """The scope of an owner's budget; no owner's name holds a colon."""
    return f"owner:{owner}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Money that moves from one bucket to another, once per key."""

    kind: str
    key: str
    source: str
    target: str
    micros: int
    hold_id: str
    attempt_id: str = ""

    def moved(self, bucket: str) -> int:
        """What the entry adds to a bucket."""
        return self.micros * ((self.target == bucket) - (self.source == bucket))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is set for an owner and for the deployment now."""

    owner: Money
    project: Money

    def of(self, scope: str) -> Money:
        """The one that counts for a scope."""
        return self.project if scope == PROJECT else self.owner

    def bound(self) -> dict[str, Any]:
        """As parameters of a statement."""
        return {"b_owner_limit": self.owner.micros, "b_project_limit": self.project.micros}


_days = budget_day.c
_taken = _days.held_micros + _days.settled_micros
_micros = bindparam("b_micros", type_=BigInteger)
_date = bindparam("b_date", type_=LocalDate)
_ROW = select(budget_day).where(_days.scope == bindparam("b_scope"), _days.budget_date == _date)
_both = (
    _days.scope.in_([bindparam("b_scope", type_=Text), PROJECT]),
    _days.budget_date == _date,
)
# A plain FOR UPDATE would wait for the foreign keys of other holds, and they for it.
_LOCK_BOTH = select(budget_day).where(*_both).order_by(_days.scope).with_for_update(key_share=True)


def target(owner_limit: Any) -> Any:  # noqa: ANN401 - SQLAlchemy's
    """What is set for the scope of a row."""
    project_limit = bindparam("b_project_limit", type_=BigInteger)
    return case((_days.scope == PROJECT, project_limit), else_=owner_limit)


def _in_force(limit: Any) -> Any:  # noqa: ANN401 - SQLAlchemy's
    # Lowered no further than to what is taken, and an overrun stays above it: `limit_in_force`.
    floor = case((_days.limit_micros < _taken, _days.limit_micros), else_=_taken)
    return case((floor > limit, floor), else_=limit)


def _locked(*columns: Any) -> Subquery:  # noqa: ANN401 - SQLAlchemy's
    """Both rows' scopes, locked one after the other."""
    found = select(_days.scope, *columns).where(*_both).order_by(_days.scope)
    return found.with_for_update(key_share=True).subquery("locked")


def _change(locked: Subquery, *conditions: Any, **values: Any) -> Update:  # noqa: ANN401
    these = (_days.scope == locked.c.scope, _days.budget_date == _date)
    return update(budget_day).where(*these, *conditions).values(**values)


def take_under(limit: Any) -> Update:  # noqa: ANN401 - SQLAlchemy's
    """Takes from each row that has enough left; whoever runs it must find that both did.

    The limit alone guards: an overrun must use headroom up, not add to it.
    """
    locked = _locked(limit.label("target"))
    in_force = _in_force(locked.c.target)
    more = {"held_micros": _days.held_micros + _micros, "version": _days.version + 1}
    return _change(locked, _taken + _micros <= in_force, limit_micros=in_force, **more)


_set = target(bindparam("b_owner_limit", type_=BigInteger))
_APPLY = _change(_locked(), limit_micros=_in_force(_set))
_MOVE = _change(
    _locked(),
    held_micros=_days.held_micros + bindparam("b_held", type_=BigInteger),
    settled_micros=_days.settled_micros + bindparam("b_settled", type_=BigInteger),
    overrun_micros=_days.overrun_micros + bindparam("b_overrun", type_=BigInteger),
    version=_days.version + bindparam("b_entries", type_=BigInteger),
)
_TAKE = _change(
    _locked(),
    _taken + _micros <= _days.limit_micros,
    held_micros=_days.held_micros + _micros,
    version=_days.version + 1,
)
_TAKE_UNDER_NEW_LIMITS = take_under(_set)
# A line in each scope. The days are those after the last entry, so earlier ones count back.
_line = {
    "idempotency_key": bindparam("b_key", type_=Text) + "@" + _days.scope,
    "scope": _days.scope,
    "budget_date": _days.budget_date,
    "day_version": _days.version - bindparam("b_later", type_=BigInteger),
    "kind": bindparam("b_kind", type_=Text),
    "from_bucket": bindparam("b_source", type_=Text),
    "to_bucket": bindparam("b_target", type_=Text),
    "amount_micros": _micros,
    "hold_id": bindparam("b_hold", type_=Text),
    "attempt_id": bindparam("b_attempt", type_=Text),
    "held_after": _days.held_micros - bindparam("b_held_later", type_=BigInteger),
    "settled_after": _days.settled_micros - bindparam("b_settled_later", type_=BigInteger),
    "recorded_us": bindparam("b_now", type_=BigInteger),
}
LINE = (list(_line), select(*_line.values()).where(*_both))
_JOURNAL = insert(journal).from_select(*LINE)


def day_row(connection: Connection, scope: str, day: date) -> Row[Any] | None:
    """One scope's row."""
    return connection.execute(_ROW, _bind(scope, day)).first()


def headroom_of(row: Row[Any]) -> Money:
    """What a day's row has left."""
    return Money(max(0, row.limit_micros - row.held_micros - row.settled_micros))


def apply_limits(connection: Connection, owner: str, day: date, limits: Limits) -> None:
    """Bring the day's rows to what is set, as far as they can be lowered.

    Also where nothing changes: this locks the rows in the order that entries take.
    """
    values = _bind(owner_scope(owner), day) | limits.bound()
    _change_both(connection, _APPLY, values)


def take(
    connection: Connection,
    owner: str,
    day: date,
    entry: Entry,
    *,
    now: datetime,
    limits: Limits | None = None,
) -> None:
    """Post an entry that needs headroom, under `limits` where given.

    Raises:
        BudgetRefused: a scope has too little left; the transaction must not be committed.
    """
    these = _bind(owner_scope(owner), day)
    for row in connection.execute(_LOCK_BOTH, these):
        _judge(row, entry, limits)
    statement, values = _TAKE, these | {"b_micros": entry.micros}
    if limits is not None:
        statement, values = _TAKE_UNDER_NEW_LIMITS, values | limits.bound()
    _change_both(connection, statement, values)
    connection.execute(_JOURNAL, these | line_values([entry], now)[0])


def post(
    connection: Connection, owner: str, day: date, entries: Sequence[Entry], *, now: datetime
) -> None:
    """Move money in both scopes and write the journal; entries of nothing are left out."""
    moving = [entry for entry in entries if entry.micros]
    if not moving:
        return
    these = _bind(owner_scope(owner), day)
    moves = {
        "b_held": sum(entry.moved("held") for entry in moving),
        "b_settled": sum(entry.moved("settled") for entry in moving),
        "b_overrun": -sum(entry.moved("overrun") for entry in moving),
        "b_entries": len(moving),
    }
    _change_both(connection, _MOVE, these | moves)
    lines = [these | line for line in line_values(moving, now)]
    connection.execute(_JOURNAL, lines if len(lines) > 1 else lines[0])


def _change_both(connection: Connection, statement: Update, values: dict[str, Any]) -> None:
    if connection.execute(statement, values).rowcount != SCOPES:
        raise LedgerError("a hold's budget day is gone")


def _judge(row: Row[Any], entry: Entry, limits: Limits | None) -> None:
    """Refuse where a scope's day has too little left, on the figures that the lock keeps."""
    limit = Money(row.limit_micros)
    taken = row.held_micros + row.settled_micros
    if limits is not None:
        limit = limit_in_force(limits.of(row.scope), present=limit, taken=taken)
    if taken + entry.micros > limit.micros:
        raise BudgetRefused(
            estimate=Money(entry.micros),
            headroom=Money(max(0, limit.micros - taken)),
            limit=limit,
            resets_at=from_us(row.ends_at_us),
            scope=row.scope,
        )


def line_values(entries: Sequence[Entry], now: datetime) -> list[dict[str, Any]]:
    """The journal's lines, each with what the entries after it move."""
    lines: list[dict[str, Any]] = []
    held = settled = 0
    for later, entry in enumerate(reversed(entries)):
        lines.append(
            {
                "b_key": entry.key,
                "b_kind": entry.kind,
                "b_source": entry.source,
                "b_target": entry.target,
                "b_micros": entry.micros,
                "b_hold": entry.hold_id,
                "b_attempt": entry.attempt_id,
                "b_later": later,
                "b_held_later": held,
                "b_settled_later": settled,
                "b_now": to_us(now),
            }
        )
        held += entry.moved("held")
        settled += entry.moved("settled")
    return lines[::-1]


def _bind(scope: str, day: date) -> dict[str, Any]:
    return {"b_scope": scope, "b_date": day}
