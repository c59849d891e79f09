"""Holds: their rows, who may still use them, and more cover for them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, Row, bindparam, select, update

from assetgen_pipeline.adapters.sql_ledger_instants import from_us
from assetgen_pipeline.adapters.sql_ledger_journal import Entry, Limits, take
from assetgen_pipeline.adapters.sql_ledger_schema import OPEN, attempt, hold
from assetgen_pipeline.domain.budget import Hold
from assetgen_pipeline.domain.errors import HoldNotOpen, LedgerError
from assetgen_pipeline.domain.money import Money

_columns = hold.c
_LOCK = select(hold).where(_columns.hold_id == bindparam("b_hold")).with_for_update()
_LOCK_ALL = (
    select(hold)
    .where(_columns.hold_id.in_(bindparam("b_holds", expanding=True)))
    .order_by(_columns.hold_id)
    .with_for_update()
)
# An attempt never changes its hold, so one look finds and locks it.
_LOCK_OF_ATTEMPT = (
    select(hold)
    .where(
        _columns.hold_id
        == select(attempt.c.hold_id)
        .where(attempt.c.attempt_id == bindparam("b_attempt"))
        .scalar_subquery()
    )
    .with_for_update()
)
_OPEN_OF_BATCH = select(hold).where(
    _columns.batch_id == bindparam("b_batch"), _columns.state == OPEN
)
_LOCK_OPEN_OF_BATCH = _OPEN_OF_BATCH.with_for_update()
_ALL_OPEN = (
    select(hold).where(_columns.state == OPEN).order_by(_columns.created_us, _columns.hold_id)
)


def _more(column: Any, name: str) -> Any:  # noqa: ANN401 - SQLAlchemy's
    return column + bindparam(name, type_=BigInteger)


_MOVE = (
    update(hold)
    .where(_columns.hold_id == bindparam("b_hold"))
    .values(
        amount_micros=_more(_columns.amount_micros, "b_amount"),
        inflight_micros=_more(_columns.inflight_micros, "b_inflight"),
        drawn_micros=_more(_columns.drawn_micros, "b_drawn"),
        released_micros=_more(_columns.released_micros, "b_released"),
        extensions=_more(_columns.extensions, "b_extensions"),
    )
)


def free_micros(row: Row[Any]) -> int:
    """What a hold has left for further attempts."""
    spent: int = row.drawn_micros + row.released_micros + row.inflight_micros
    return int(row.amount_micros) - spent


def locked_hold(connection: Connection, hold_id: str) -> Row[Any]:
    """A hold's row, locked until the transaction ends.

    Raises:
        HoldNotOpen: the ledger has no such hold.
    """
    found = connection.execute(_LOCK, {"b_hold": hold_id}).first()
    if found is None:
        raise HoldNotOpen("the ledger has no such hold")
    return found


def locked_holds(connection: Connection, hold_ids: Sequence[str]) -> Sequence[Row[Any]]:
    """The rows of holds, locked in one order until the transaction ends."""
    return connection.execute(_LOCK_ALL, {"b_holds": hold_ids}).all()


def locked_hold_of(connection: Connection, attempt_id: str) -> Row[Any]:
    """The row of an attempt's hold, locked until the transaction ends.

    Raises:
        LedgerError: the ledger has no such attempt.
    """
    found = connection.execute(_LOCK_OF_ATTEMPT, {"b_attempt": attempt_id}).first()
    if found is None:
        raise LedgerError("the ledger has no such attempt")
    return found


def locked_open_hold(connection: Connection, batch_id: str) -> Row[Any] | None:
    """The row of the batch's open hold, locked until the transaction ends."""
    return connection.execute(_LOCK_OPEN_OF_BATCH, {"b_batch": batch_id}).first()


def open_hold(connection: Connection, batch_id: str) -> Hold | None:
    """The batch's open hold."""
    row = connection.execute(_OPEN_OF_BATCH, {"b_batch": batch_id}).first()
    return None if row is None else hold_value(row)


def usable_hold(connection: Connection, wanted: Hold) -> Row[Any]:
    """The hold's locked row, if whoever holds `wanted` may still send.

    Raises:
        HoldNotOpen: closed, or taken over by another run.
    """
    row = locked_hold(connection, wanted.hold_id)
    if row.state != OPEN:
        raise HoldNotOpen("the hold has ended")
    if row.fence != wanted.fence:
        raise HoldNotOpen("another run took the hold over")
    return row


def hold_value(row: Row[Any]) -> Hold:
    """The hold as the domain knows it."""
    return Hold(
        hold_id=row.hold_id,
        batch_id=row.batch_id,
        owner=row.owner,
        budget_date=row.budget_date,
        amount=Money(row.amount_micros),
        fence=row.fence,
        run_id=row.run_id,
        worker=row.worker,
        opened_at=from_us(row.created_us),
    )


def all_open(connection: Connection) -> list[Hold]:
    """All open holds, oldest first."""
    return [hold_value(row) for row in connection.execute(_ALL_OPEN)]


def move_hold(
    connection: Connection,
    hold_id: str,
    *,
    amount: int = 0,
    inflight: int = 0,
    drawn: int = 0,
    released: int = 0,
) -> None:
    """Add to a locked hold's figures; more cover (`amount`) counts as an extension."""
    values = {
        "b_hold": hold_id,
        "b_amount": amount,
        "b_inflight": inflight,
        "b_drawn": drawn,
        "b_released": released,
        "b_extensions": 1 if amount else 0,
    }
    connection.execute(_MOVE, values)


def take_cover(
    connection: Connection,
    row: Row[Any],
    micros: int,
    *,
    now: datetime,
    limits: Limits | None = None,
) -> None:
    """Take more cover for a locked hold from its own day.

    Raises:
        BudgetRefused: that day's limit does not cover it.
    """
    entry = Entry(
        kind="extend",
        key=f"extend:{row.hold_id}:{row.extensions + 1}",
        source="available",
        target="held",
        micros=micros,
        hold_id=row.hold_id,
    )
    take(connection, row.owner, row.budget_date, entry, now=now, limits=limits)
