"""Resolutions: how an attempt's ending moves its hold, its day and the journal."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, Row, bindparam, select, update

from assetgen_pipeline.adapters.sql_ledger_days import DayBook, Decision
from assetgen_pipeline.adapters.sql_ledger_holds import free_micros, locked_hold_of, move_hold
from assetgen_pipeline.adapters.sql_ledger_instants import to_us
from assetgen_pipeline.adapters.sql_ledger_journal import (
    Entry,
    day_row,
    headroom_of,
    owner_scope,
    post,
)
from assetgen_pipeline.adapters.sql_ledger_schema import attempt
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


_columns = attempt.c
_THIS = select(attempt).where(_columns.attempt_id == bindparam("b_attempt")).with_for_update()
_in_flight = (
    _columns.hold_id.in_(bindparam("b_holds", expanding=True)),
    _columns.state == AttemptState.INTENT.value,
)
_IN_FLIGHT = (
    select(_columns.attempt_id, _columns.hold_id, _columns.ceiling_micros)
    .where(*_in_flight)
    .order_by(_columns.attempt_id)
)
_ASSUME = (
    update(attempt)
    .where(*_in_flight)
    .values(
        state=AttemptState.ASSUMED.value,
        cost_micros=_columns.ceiling_micros,
        covered_micros=_columns.ceiling_micros,
        cost_basis="assumed",
        code="internal",
        detail="the run ended before the outcome was known",
        resolved_us=bindparam("b_now", type_=BigInteger),
    )
)
_BILL = {
    "state": bindparam("b_state"),
    "cost_micros": bindparam("b_cost", type_=BigInteger),
    "covered_micros": bindparam("b_covered", type_=BigInteger),
    "cost_basis": bindparam("b_basis"),
    "resolved_us": bindparam("b_now", type_=BigInteger),
}
_FACTS = {
    "code": bindparam("b_code"),
    "detail": bindparam("b_detail"),
    "image_json": bindparam("b_image"),
    "latency_ms": bindparam("b_latency", type_=BigInteger),
    "request_id": bindparam("b_request"),
}
_RESOLVE = update(attempt).where(_columns.attempt_id == bindparam("b_attempt")).values(**_BILL)
_RESOLVE_WITH_FACTS = _RESOLVE.values(**_FACTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Booking:
    """What a resolution moves: from held, back to available, and what no hold covers."""

    cover: int
    give_back: int
    overrun: int


def assume_in_flight(
    connection: Connection, holds: Sequence[str], *, now: datetime
) -> dict[str, list[Entry]]:
    """Resolve every open attempt of locked holds at its ceiling; what is to be posted for each.

    The holds' own figures are the caller's to move: all that is in flight becomes drawn.
    """
    draws: dict[str, list[Entry]] = {hold_id: [] for hold_id in holds}
    found = connection.execute(_IN_FLIGHT, {"b_holds": list(draws)}).all()
    if found:
        connection.execute(_ASSUME, {"b_holds": list(draws), "b_now": to_us(now)})
    for one in found:
        draw = Entry(
            kind="draw",
            key=f"draw:{one.attempt_id}",
            source="held",
            target="settled",
            micros=one.ceiling_micros,
            hold_id=one.hold_id,
            attempt_id=one.attempt_id,
        )
        draws[one.hold_id].append(draw)
    return draws


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
    holding = locked_hold_of(connection, attempt_id)
    row = connection.execute(_THIS, {"b_attempt": attempt_id}).one()
    if _is_replay(row, resolution):
        return
    cost = row.ceiling_micros if resolution.cost is None else resolution.cost.micros
    if resolution.state is AttemptState.VOIDED:
        cost = 0
    booking = _book(holding, row, cost)
    _update_hold(connection, holding, row, booking)
    _post(connection, book, holding, row, booking, now=now)
    values: dict[str, object] = {
        "b_attempt": attempt_id,
        "b_state": resolution.state.value,
        "b_cost": None if resolution.state is AttemptState.VOIDED else cost,
        "b_covered": row.covered_micros + booking.cover - booking.give_back,
        "b_basis": resolution.cost_basis,
        "b_now": to_us(now),
    }
    if resolution.keeps_facts:
        connection.execute(_RESOLVE, values)
    else:
        connection.execute(_RESOLVE_WITH_FACTS, values | _facts(resolution))


def _facts(resolution: Resolution) -> dict[str, object]:
    image = resolution.image
    return {
        "b_code": resolution.code,
        "b_detail": resolution.detail,
        "b_image": None if image is None else image.model_dump_json(),
        "b_latency": resolution.latency_ms,
        "b_request": resolution.request_id,
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
    move_hold(
        connection,
        holding.hold_id,
        inflight=-row.ceiling_micros if row.state == AttemptState.INTENT.value else 0,
        drawn=booking.cover - booking.give_back,
        released=booking.give_back,
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
    entries = [
        Entry(
            kind=kind,
            key=f"{kind}:{row.attempt_id}",
            source=source,
            target=target,
            micros=micros,
            hold_id=holding.hold_id,
            attempt_id=row.attempt_id,
        )
        for kind, source, target, micros in moves
    ]
    post(connection, holding.owner, holding.budget_date, entries, now=now)
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
    day = day_row(connection, scope, holding.budget_date)
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
