"""Budget days: which one it is, its rows, the limits that are set, and decisions on record."""

import logging
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import (
    BigInteger,
    Connection,
    Text,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from assetgen_pipeline.adapters.sql_ledger_instants import to_us
from assetgen_pipeline.adapters.sql_ledger_journal import PROJECT, Limits, owner_scope
from assetgen_pipeline.adapters.sql_ledger_schema import (
    LocalDate,
    budget_day,
    budget_decision,
    budget_limit,
)
from assetgen_pipeline.domain.budget import budget_date_at, day_bounds
from assetgen_pipeline.domain.money import MAX_MICROS, Money

_log = logging.getLogger(__name__)
CLOCK_SLACK_US = 5_000_000
_NEAR = timedelta(days=2)
INSERTS: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
_NEW_DAY = {
    name: make(budget_day).on_conflict_do_nothing().returning(budget_day.c.scope)
    for name, make in INSERTS.items()
}
_now_us = bindparam("b_now", type_=BigInteger)
_of_another_zone = (
    budget_day.c.scope == PROJECT,
    budget_day.c.budget_date.between(
        bindparam("b_from", type_=LocalDate), bindparam("b_to", type_=LocalDate)
    ),
    budget_day.c.time_zone != bindparam("b_zone", type_=Text),
    budget_day.c.starts_at_us <= _now_us,
    budget_day.c.ends_at_us > _now_us,
)
CARRIED = select(func.min(budget_day.c.budget_date)).where(*_of_another_zone).scalar_subquery()
IS_CARRIED = exists().where(*_of_another_zone)
LIMIT_SET = (
    select(budget_limit.c.limit_micros)
    .where(budget_limit.c.owner == bindparam("b_owner", type_=Text))
    .order_by(budget_limit.c.limit_id.desc())
    .limit(1)
    .scalar_subquery()
)
NEWEST_US = (
    select(budget_decision.c.decided_us)
    .order_by(budget_decision.c.decision_id.desc())
    .limit(1)
    .scalar_subquery()
)
_TODAY = select(CARRIED)
_LIMIT = select(LIMIT_SET)
_left = budget_day.c.limit_micros - budget_day.c.held_micros - budget_day.c.settled_micros
_allowed = {
    "decided_us": bindparam("b_now", type_=BigInteger),
    "outcome": literal_column("'allowed'", Text),
    "scope": budget_day.c.scope,
    "owner": bindparam("b_owner", type_=Text),
    "budget_date": budget_day.c.budget_date,
    "batch_id": bindparam("b_batch", type_=Text),
    "run_id": bindparam("b_run", type_=Text),
    "estimate_micros": bindparam("b_micros", type_=BigInteger),
    "headroom_micros": case((_left > 0, _left), else_=0),
    "limit_micros": budget_day.c.limit_micros,
}
ALLOW = insert(budget_decision).from_select(
    list(_allowed),
    select(*_allowed.values()).where(
        budget_day.c.scope == bindparam("b_scope", type_=Text),
        budget_day.c.budget_date == bindparam("b_date", type_=LocalDate),
    ),
)
_DECIDE = insert(budget_decision).inline()


def insert_if_absent(
    connection: Connection, statements: dict[str, Any], values: dict[str, object]
) -> bool:
    """Insert a row unless a unique key of it is taken; whether it was inserted."""
    return connection.execute(statements[connection.dialect.name], values).first() is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Why a batch was let in or not, kept for whoever asks."""

    outcome: str
    owner: str
    budget_date: date
    scope: str
    estimate: int
    headroom: int
    limit: int
    batch_id: str = ""
    run_id: str = ""
    attempt_id: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayBook:
    """The rules of days, for one configuration."""

    time_zone: ZoneInfo
    default_limit: Money
    project_limit: Money | None
    unlimited: Money = field(default=Money(MAX_MICROS))

    def today(self, connection: Connection, now: datetime) -> date:
        """The budget day of `now`; a changed time zone counts once the present day is over."""
        found: date | None = connection.scalar(_TODAY, carried_values(self, now))
        return found or budget_date_at(now, self.time_zone)

    def limit_of(self, connection: Connection, owner: str) -> Money:
        """The limit that new days of an owner get."""
        return self.limits(connection.scalar(_LIMIT, {"b_owner": owner})).owner

    def limits_of(self, connection: Connection, owner: str) -> Limits:
        """What is set for the owner and the deployment."""
        return self.limits(connection.scalar(_LIMIT, {"b_owner": owner}))

    def ensure(self, connection: Connection, owner: str, day: date, limits: Limits) -> None:
        """Create the day's rows where they are absent."""
        start, end = day_bounds(day, self.time_zone)
        for scope in (owner_scope(owner), PROJECT):
            row: dict[str, object] = {
                "scope": scope,
                "budget_date": day,
                "time_zone": self.time_zone.key,
                "starts_at_us": to_us(start),
                "ends_at_us": to_us(end),
                "limit_micros": limits.of(scope).micros,
            }
            insert_if_absent(connection, _NEW_DAY, row)

    def decide(self, connection: Connection, decision: Decision, *, now: datetime) -> None:
        """Keep a decision."""
        connection.execute(
            _DECIDE,
            {
                "decided_us": to_us(now),
                "outcome": decision.outcome,
                "scope": decision.scope,
                "owner": decision.owner,
                "budget_date": decision.budget_date,
                "batch_id": decision.batch_id,
                "run_id": decision.run_id,
                "attempt_id": decision.attempt_id,
                "estimate_micros": decision.estimate,
                "headroom_micros": decision.headroom,
                "limit_micros": decision.limit,
                "actor": decision.actor,
            },
        )

    def allow(
        self,
        connection: Connection,
        owner: str,
        day: date,
        *,
        estimate: Money,
        batch_id: str,
        run_id: str,
        now: datetime,
    ) -> None:
        """Keep that a batch was let in, and what the owner's day has left after it."""
        values = {
            "b_now": to_us(now),
            "b_owner": owner,
            "b_scope": owner_scope(owner),
            "b_date": day,
            "b_batch": batch_id,
            "b_run": run_id,
            "b_micros": estimate.micros,
        }
        connection.execute(ALLOW, values)

    def limits(self, owner_micros: int | None) -> Limits:
        """What counts where this is set for an owner (`None`: nothing)."""
        owner = self.default_limit if owner_micros is None else Money(owner_micros)
        return Limits(owner=owner, project=self.project_limit or self.unlimited)


def carried_values(book: DayBook, now: datetime) -> dict[str, Any]:
    """What `CARRIED` asks for: a present day that another time zone began."""
    # No two clocks on Earth are further apart; without it all days there ever were are looked at.
    local = now.date()
    return {
        "b_zone": book.time_zone.key,
        "b_now": to_us(now),
        "b_from": local - _NEAR,
        "b_to": local + _NEAR,
    }


def warn_of_clock(newest_us: int | None, now: datetime) -> None:
    """Raise the alarm where the clock stands before the newest decision.

    No limit depends on it: a step back only opens what the former day has left.
    """
    if newest_us is not None and to_us(now) < newest_us - CLOCK_SLACK_US:
        behind = (newest_us - to_us(now)) // 1_000_000
        _log.error("the clock went back: it is %s s behind the ledger's newest decision", behind)
