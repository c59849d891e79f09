"""Resolutions: how an attempt's ending moves its hold, its day and the journal."""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, update

from assetgen_pipeline.adapters.sql_ledger_days import (
    DayBook,
    Decision,
    Entry,
    headroom_of,
    owner_scope,
    to_us,
)
from assetgen_pipeline.adapters.sql_ledger_holds import free_micros, locked_hold
from assetgen_pipeline.adapters.sql_ledger_schema import attempt, hold
from assetgen_pipeline.domain.budget import AttemptState, StoredImage
from assetgen_pipeline.domain.errors import IdempotencyConflict, LedgerError
from assetgen_pipeline.domain.money import Money

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """How an attempt ended."""

    state: AttemptState
    cost: Money | None = None
    """`None` books the ceiling where the state is `assumed`."""
    cost_basis: str = "none"
    image: StoredImage | None = None
    code: str = ""
    detail: str = ""
    latency_ms: int = 0
    request_id: str = ""
    corrects: bool = False
    """Whether it may void what was assumed; a capture always may correct it."""
    keeps_facts: bool = False
    """Whether the attempt keeps its image, code and latency: only the bill became known."""


RUN_ENDED = Resolution(
    state=AttemptState.ASSUMED,
    cost_basis="assumed",
    code="internal",
    detail="the run ended before the outcome was known",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Booking:
    """What a resolution moves: from held, back to available, and what no hold covers."""

    cover: int
    give_back: int
    overrun: int


def assume_in_flight(
    connection: Connection, book: DayBook, row: Row[Any], *, now: datetime
) -> Row[Any]:
    """Book every open attempt of a locked hold at its ceiling; the hold's row afterwards."""
    ids = select(attempt.c.attempt_id).where(
        attempt.c.hold_id == row.hold_id, attempt.c.state == AttemptState.INTENT.value
    )
    for attempt_id in connection.scalars(ids.order_by(attempt.c.attempt_id)).all():
        resolve(connection, book, attempt_id, RUN_ENDED, now=now)
    return locked_hold(connection, row.hold_id)


def resolve(
    connection: Connection,
    book: DayBook,
    attempt_id: str,
    resolution: Resolution,
    *,
    now: datetime,
) -> None:
    """Book how an attempt ended; the same ending again changes nothing.

    Raises:
        IdempotencyConflict: it ended otherwise before.
        LedgerError: the ledger has no such attempt.
    """
    hold_id = connection.scalar(select(attempt.c.hold_id).where(attempt.c.attempt_id == attempt_id))
    if hold_id is None:
        raise LedgerError("the ledger has no such attempt")
    holding = locked_hold(connection, hold_id)
    row = connection.execute(
        select(attempt).where(attempt.c.attempt_id == attempt_id).with_for_update()
    ).one()
    if _is_replay(row, resolution):
        return
    cost = row.ceiling_micros if resolution.cost is None else resolution.cost.micros
    if resolution.state is AttemptState.VOIDED:
        cost = 0
    booking = _book(holding, row, cost)
    _update_hold(connection, holding, row, booking)
    _post(connection, book, holding, row, booking, now=now)
    values: dict[str, object] = {
        "state": resolution.state.value,
        "cost_micros": None if resolution.state is AttemptState.VOIDED else cost,
        "covered_micros": row.covered_micros + booking.cover - booking.give_back,
        "cost_basis": resolution.cost_basis,
        "resolved_us": to_us(now),
    }
    if not resolution.keeps_facts:
        values |= _facts(resolution)
    connection.execute(update(attempt).where(attempt.c.attempt_id == attempt_id).values(values))


def _facts(resolution: Resolution) -> dict[str, object]:
    image = resolution.image
    return {
        "code": resolution.code,
        "detail": resolution.detail,
        "image_json": None if image is None else image.model_dump_json(),
        "latency_ms": resolution.latency_ms,
        "request_id": resolution.request_id,
    }


def _is_replay(row: Row[Any], resolution: Resolution) -> bool:
    """Whether the attempt ended in just this way already.

    Raises:
        IdempotencyConflict: it ended otherwise, and that is final.
    """
    state = AttemptState(row.state)
    if state is AttemptState.INTENT:
        return False
    if state is resolution.state:
        same = resolution.cost is None or resolution.cost.micros == row.cost_micros
        if same:
            return True
    elif state is AttemptState.ASSUMED and (
        resolution.state is AttemptState.CAPTURED or resolution.corrects
    ):
        return False
    message = f"the attempt was {state.value} already"
    raise IdempotencyConflict(message)


def _book(holding: Row[Any], row: Row[Any], cost: int) -> _Booking:
    ceiling = row.ceiling_micros if row.state == AttemptState.INTENT.value else 0
    more = cost - row.covered_micros
    cover = max(0, min(more, free_micros(holding) + ceiling))
    return _Booking(cover=cover, give_back=max(0, -more), overrun=max(0, more - cover))


def _update_hold(
    connection: Connection, holding: Row[Any], row: Row[Any], booking: _Booking
) -> None:
    ceiling = row.ceiling_micros if row.state == AttemptState.INTENT.value else 0
    connection.execute(
        update(hold)
        .where(hold.c.hold_id == holding.hold_id)
        .values(
            inflight_micros=hold.c.inflight_micros - ceiling,
            drawn_micros=hold.c.drawn_micros + booking.cover - booking.give_back,
            released_micros=hold.c.released_micros + booking.give_back,
        )
    )


def _post(
    connection: Connection,
    book: DayBook,
    holding: Row[Any],
    row: Row[Any],
    booking: _Booking,
    *,
    now: datetime,
) -> None:
    first = "draw" if row.state == AttemptState.INTENT.value else "correct"
    moves = (
        (first, "held", "settled", booking.cover),
        ("adjust", "settled", "available", booking.give_back),
        ("overrun", "overrun", "settled", booking.overrun),
    )
    for kind, source, target, micros in moves:
        entry = Entry(
            kind=kind,
            key=f"{kind}:{row.attempt_id}",
            source=source,
            target=target,
            micros=micros,
            hold_id=holding.hold_id,
            attempt_id=row.attempt_id,
        )
        book.post(connection, holding.owner, holding.budget_date, entry, now=now)
    if booking.overrun:
        _alarm(connection, book, holding, row, booking.overrun, now=now)


def _alarm(
    connection: Connection,
    book: DayBook,
    holding: Row[Any],
    row: Row[Any],
    overrun: int,
    *,
    now: datetime,
) -> None:
    scope = owner_scope(holding.owner)
    day = book.row(connection, scope, holding.budget_date)
    if day is None:
        raise LedgerError("a hold's budget day is gone")
    _log.error("attempt %s cost %s more than was held", row.attempt_id, Money(overrun))
    decision = Decision(
        outcome="overrun",
        owner=holding.owner,
        budget_date=holding.budget_date,
        scope=scope,
        estimate=overrun,
        headroom=headroom_of(day).micros,
        limit=day.limit_micros,
        batch_id=holding.batch_id,
        run_id=row.run_id,
        attempt_id=row.attempt_id,
    )
    book.decide(connection, decision, now=now)
