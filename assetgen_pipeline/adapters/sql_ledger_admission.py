"""Letting batches in and out: reserve, take over, settle, expire."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, Row, bindparam, update

from assetgen_pipeline.adapters.sql_ledger_bookings import assume_in_flight
from assetgen_pipeline.adapters.sql_ledger_days import DayBook, Decision
from assetgen_pipeline.adapters.sql_ledger_holds import (
    free_micros,
    hold_value,
    locked_hold,
    locked_holds,
    locked_open_hold,
    move_hold,
    take_cover,
)
from assetgen_pipeline.adapters.sql_ledger_instants import to_us
from assetgen_pipeline.adapters.sql_ledger_journal import Entry, apply_limits, post, take
from assetgen_pipeline.adapters.sql_ledger_openings import (
    Opening,
    Wanted,
    look,
    open_hold,
)
from assetgen_pipeline.adapters.sql_ledger_schema import CLOSED, EXPIRED, OPEN, hold
from assetgen_pipeline.domain.budget import Hold
from assetgen_pipeline.domain.errors import BudgetRefused, IdempotencyConflict, LedgerUnavailable
from assetgen_pipeline.domain.money import ZERO, Money

# Each turn loses only to another process that opened or ended a hold of the same batch.
_TURNS = 20
# Long enough to be quick, short enough to keep nobody waiting.
_HOLDS_AT_ONCE = 50
_columns = hold.c
_this = _columns.hold_id == bindparam("b_hold")
_drawn = {
    "drawn_micros": _columns.drawn_micros + bindparam("b_drawn", type_=BigInteger),
    "inflight_micros": _columns.inflight_micros - bindparam("b_drawn", type_=BigInteger),
    "fence": _columns.fence + 1,
}
_HAND_OVER = (
    update(hold)
    .where(_this)
    .values(
        run_id=bindparam("b_run"),
        worker=bindparam("b_worker"),
        price_version=bindparam("b_prices"),
        **_drawn,
    )
)
_END = (
    update(hold)
    .where(_this)
    .values(
        released_micros=_columns.released_micros + bindparam("b_rest", type_=BigInteger),
        state=bindparam("b_state"),
        closed_us=bindparam("b_now", type_=BigInteger),
        **_drawn,
    )
)


def reserve(connection: Connection, book: DayBook, wanted: Wanted, *, now: datetime) -> Hold:
    """Open a hold for a batch, or take over the one it has.

    Raises:
        BudgetRefused: the day's limit does not cover it.
        IdempotencyConflict: the batch's open hold is another owner's.
        LedgerUnavailable: other processes kept opening and ending holds of this batch.
    """
    for _ in range(_TURNS):
        found = look(connection, book, wanted, now=now)
        held = (
            _open(connection, book, found, wanted, now=now)
            if found.hold_id is None
            else _take_over(connection, book, found, wanted, now=now)
        )
        if held is not None:
            return held
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


def settle(connection: Connection, batch_id: str, *, now: datetime) -> Money:
    """End a batch's open hold and return what was released."""
    found = locked_open_hold(connection, batch_id)
    return ZERO if found is None else _end(connection, [found], CLOSED, now=now)[found.hold_id]


def of_one_day(holds: Sequence[Hold]) -> Iterator[list[Hold]]:
    """The holds in groups that one transaction ends."""
    days: dict[tuple[str, date], list[Hold]] = {}
    for one in holds:
        days.setdefault((one.owner, one.budget_date), []).append(one)
    for together in days.values():
        for start in range(0, len(together), _HOLDS_AT_ONCE):
            yield together[start : start + _HOLDS_AT_ONCE]


def expire(
    connection: Connection, wanted: Sequence[Hold], *, now: datetime
) -> dict[tuple[str, int], Money]:
    """End dead runs' holds of one owner and day; what was released, by hold and fence.

    Those that have ended, or whose fence has moved on, are left out.
    """
    known = {(one.hold_id, one.fence) for one in wanted}
    rows = locked_holds(connection, sorted({hold_id for hold_id, _fence in known}))
    dead = [row for row in rows if row.state == OPEN and (row.hold_id, row.fence) in known]
    released = _end(connection, dead, EXPIRED, now=now) if dead else {}
    return {(row.hold_id, row.fence): released[row.hold_id] for row in dead}


def _end(
    connection: Connection, rows: Sequence[Row[Any]], state: str, *, now: datetime
) -> dict[str, Money]:
    """End locked holds of one owner and day; what was released, by hold."""
    draws = assume_in_flight(connection, [row.hold_id for row in rows], now=now)
    rests = {row.hold_id: free_micros(row) for row in rows}
    endings = [
        {
            "b_hold": hold_id,
            "b_drawn": sum(entry.micros for entry in draws[hold_id]),
            "b_rest": rest,
            "b_state": state,
            "b_now": to_us(now),
        }
        for hold_id, rest in rests.items()
    ]
    connection.execute(_END, endings if len(endings) > 1 else endings[0])
    entries = [
        entry
        for hold_id, rest in rests.items()
        for entry in (*draws[hold_id], _release(hold_id, rest))
    ]
    post(connection, rows[0].owner, rows[0].budget_date, entries, now=now)
    return {hold_id: Money(rest) for hold_id, rest in rests.items()}


def _release(hold_id: str, micros: int) -> Entry:
    return Entry(
        kind="release",
        key=f"release:{hold_id}",
        source="held",
        target="available",
        micros=micros,
        hold_id=hold_id,
    )


def _open(
    connection: Connection, book: DayBook, found: Opening, wanted: Wanted, *, now: datetime
) -> Hold | None:
    """A new hold; `None` where another process opened one meanwhile."""
    opened = open_hold(connection, book, found, wanted, now=now)
    if opened is None:
        return None
    if wanted.amount.micros:
        entry = Entry(
            kind="reserve",
            key=opened.key,
            source="available",
            target="held",
            micros=wanted.amount.micros,
            hold_id=opened.hold_id,
        )
        take(connection, wanted.owner, opened.day, entry, now=now, limits=opened.limits)
    else:
        apply_limits(connection, wanted.owner, opened.day, opened.limits)
    _note_allowed(connection, book, opened.day, wanted, now=now)
    return Hold(
        hold_id=opened.hold_id,
        batch_id=wanted.batch_id,
        owner=wanted.owner,
        budget_date=opened.day,
        amount=wanted.amount,
        fence=1,
        run_id=wanted.run_id,
        worker=wanted.worker,
        opened_at=now,
    )


def _take_over(
    connection: Connection, book: DayBook, found: Opening, wanted: Wanted, *, now: datetime
) -> Hold | None:
    """The batch's open hold, now this run's; `None` where it ended meanwhile."""
    row = locked_open_hold(connection, wanted.batch_id)
    if row is None:
        return None
    if row.owner != wanted.owner:
        raise IdempotencyConflict("the batch's open hold is another owner's")
    draws = assume_in_flight(connection, [row.hold_id], now=now)[row.hold_id]
    values = {
        "b_hold": row.hold_id,
        "b_run": wanted.run_id,
        "b_worker": wanted.worker,
        "b_prices": wanted.price_version,
        "b_drawn": sum(entry.micros for entry in draws),
    }
    connection.execute(_HAND_OVER, values)
    post(connection, row.owner, row.budget_date, draws, now=now)
    missing = wanted.amount.micros - free_micros(row)
    if missing > 0:
        take_cover(connection, row, missing, now=now, limits=found.limits)
        move_hold(connection, row.hold_id, amount=missing)
    else:
        apply_limits(connection, row.owner, row.budget_date, found.limits)
    _note_allowed(connection, book, row.budget_date, wanted, now=now)
    return hold_value(locked_hold(connection, row.hold_id))


def _note_allowed(
    connection: Connection, book: DayBook, day: date, wanted: Wanted, *, now: datetime
) -> None:
    book.allow(
        connection,
        wanted.owner,
        day,
        estimate=wanted.amount,
        batch_id=wanted.batch_id,
        run_id=wanted.run_id,
        now=now,
    )
