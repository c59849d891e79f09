"""Budget days: their rows, their limits, and the journal behind every figure in them.

Each entry moves an owner's day and then the deployment's, always in that order, so that two
transactions never wait for one another. A guard in the UPDATE itself keeps the limit:
what two transactions read before they lock does not matter.
"""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row, Table, case, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from assetgen_pipeline.adapters.sql_ledger_schema import (
    budget_day,
    budget_decision,
    budget_limit,
    journal,
)
from assetgen_pipeline.domain.budget import budget_date_at, day_bounds
from assetgen_pipeline.domain.errors import BudgetRefused
from assetgen_pipeline.domain.money import MAX_MICROS, Money

PROJECT = "project"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def owner_scope(owner: str) -> str:
    """The scope of an owner's budget; no owner's name holds a colon."""
    return f"owner:{owner}"


def to_us(instant: datetime) -> int:
    """Whole microseconds since 1970, exactly."""
    return (instant - EPOCH) // timedelta(microseconds=1)


def from_us(microseconds: int) -> datetime:
    """The instant, aware, UTC."""
    return EPOCH + timedelta(microseconds=microseconds)


def insert_if_absent(connection: Connection, table: Table, values: dict[str, object]) -> bool:
    """Insert a row unless a unique key of it is taken; whether it was inserted."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    key = next(iter(table.primary_key.columns))
    statement = dialect.insert(table).values(values).on_conflict_do_nothing().returning(key)
    return connection.execute(statement).first() is not None


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
        us = to_us(now)
        present = select(budget_day.c.budget_date).where(
            budget_day.c.scope == PROJECT,
            budget_day.c.time_zone != self.time_zone.key,
            budget_day.c.starts_at_us <= us,
            budget_day.c.ends_at_us > us,
        )
        found = connection.scalar(present.order_by(budget_day.c.budget_date).limit(1))
        return found or budget_date_at(now, self.time_zone)

    def limit_of(self, connection: Connection, owner: str) -> Money:
        """The limit that new days of an owner get."""
        rows = select(budget_limit.c.limit_micros).where(budget_limit.c.owner == owner)
        found = connection.scalar(rows.order_by(budget_limit.c.limit_id.desc()).limit(1))
        return self.default_limit if found is None else Money(found)

    def ensure(self, connection: Connection, owner: str, day: date) -> None:
        """Create the day's rows where they are absent."""
        limits = {
            owner_scope(owner): self.limit_of(connection, owner),
            PROJECT: self.project_limit or self.unlimited,
        }
        start, end = day_bounds(day, self.time_zone)
        for scope, limit in limits.items():
            row: dict[str, object] = {
                "scope": scope,
                "budget_date": day,
                "time_zone": self.time_zone.key,
                "starts_at_us": to_us(start),
                "ends_at_us": to_us(end),
                "limit_micros": limit.micros,
            }
            insert_if_absent(connection, budget_day, row)

    def apply_limits(self, connection: Connection, owner: str, day: date) -> None:
        """Bring the day's rows to the limits now configured, as far as they can be lowered."""
        self._apply(connection, owner_scope(owner), day, self.limit_of(connection, owner))
        self._apply(connection, PROJECT, day, self.project_limit or self.unlimited)

    def row(self, connection: Connection, scope: str, day: date) -> Row[Any] | None:
        """One scope's row."""
        return connection.execute(select(budget_day).where(*_is(scope, day))).first()

    def take(
        self, connection: Connection, owner: str, day: date, entry: Entry, *, now: datetime
    ) -> None:
        """Post an entry that needs headroom.

        Raises:
            BudgetRefused: a scope has too little left; the transaction must not be committed.
        """
        self.post(connection, owner, day, entry, now=now, guarded=True)

    def post(
        self,
        connection: Connection,
        owner: str,
        day: date,
        entry: Entry,
        *,
        now: datetime,
        guarded: bool = False,
    ) -> None:
        """Move money in both scopes and write the journal; nothing for a zero amount.

        Raises:
            BudgetRefused: `guarded`, and a scope has too little left.
        """
        if not entry.micros:
            return
        for scope in (owner_scope(owner), PROJECT):
            after = self._move(connection, scope, day, entry, guarded=guarded)
            if after is None:
                raise self._refusal(connection, scope, day, Money(entry.micros))
            connection.execute(
                insert(journal).values(
                    idempotency_key=f"{entry.key}@{scope}",
                    scope=scope,
                    budget_date=day,
                    day_version=after.version,
                    kind=entry.kind,
                    from_bucket=entry.source,
                    to_bucket=entry.target,
                    amount_micros=entry.micros,
                    hold_id=entry.hold_id,
                    attempt_id=entry.attempt_id,
                    held_after=after.held_micros,
                    settled_after=after.settled_micros,
                    recorded_us=to_us(now),
                )
            )

    def decide(self, connection: Connection, decision: Decision, *, now: datetime) -> None:
        """Keep a decision."""
        connection.execute(
            insert(budget_decision).values(
                decided_us=to_us(now),
                outcome=decision.outcome,
                scope=decision.scope,
                owner=decision.owner,
                budget_date=decision.budget_date,
                batch_id=decision.batch_id,
                run_id=decision.run_id,
                attempt_id=decision.attempt_id,
                estimate_micros=decision.estimate,
                headroom_micros=decision.headroom,
                limit_micros=decision.limit,
                actor=decision.actor,
            )
        )

    def _apply(self, connection: Connection, scope: str, day: date, target: Money) -> None:
        spoken_for = budget_day.c.held_micros + budget_day.c.settled_micros
        present = budget_day.c.limit_micros
        floor = case((present < spoken_for, present), else_=spoken_for)
        lowered = case((floor > target.micros, floor), else_=target.micros)
        # Also where nothing changes: this locks the rows in the order that entries take.
        connection.execute(
            update(budget_day)
            .where(*_is(scope, day))
            .values(limit_micros=case((present < target.micros, target.micros), else_=lowered))
        )

    def _move(
        self, connection: Connection, scope: str, day: date, entry: Entry, *, guarded: bool
    ) -> Row[Any] | None:
        days = budget_day.c
        statement = update(budget_day).where(*_is(scope, day))
        if guarded:
            spoken_for = days.held_micros + days.settled_micros
            # The limit alone: an overrun must use headroom up, not add to it.
            statement = statement.where(spoken_for + entry.micros <= days.limit_micros)
        statement = statement.values(
            held_micros=days.held_micros + entry.moved("held"),
            settled_micros=days.settled_micros + entry.moved("settled"),
            overrun_micros=days.overrun_micros - entry.moved("overrun"),
            version=days.version + 1,
        )
        return connection.execute(
            statement.returning(days.version, days.held_micros, days.settled_micros)
        ).first()

    def _refusal(
        self, connection: Connection, scope: str, day: date, estimate: Money
    ) -> BudgetRefused:
        row = connection.execute(select(budget_day).where(*_is(scope, day))).one()
        return BudgetRefused(
            estimate=estimate,
            headroom=headroom_of(row),
            limit=Money(row.limit_micros),
            resets_at=from_us(row.ends_at_us),
            scope=scope,
        )


def headroom_of(row: Row[Any]) -> Money:
    """What a day's row has left."""
    return Money(max(0, row.limit_micros - row.held_micros - row.settled_micros))


def _is(scope: str, day: date) -> tuple[Any, Any]:
    return budget_day.c.scope == scope, budget_day.c.budget_date == day
