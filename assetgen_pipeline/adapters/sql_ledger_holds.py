"""Holds: their rows, who may still use them, and more cover for them."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, select, update

from assetgen_pipeline.adapters.sql_ledger_days import DayBook, Entry
from assetgen_pipeline.adapters.sql_ledger_schema import OPEN, hold
from assetgen_pipeline.domain.budget import Hold
from assetgen_pipeline.domain.errors import HoldNotOpen
from assetgen_pipeline.domain.money import Money


def free_micros(row: Row[Any]) -> int:
    """What a hold has left for further attempts."""
    spent: int = row.drawn_micros + row.released_micros + row.inflight_micros
    return int(row.amount_micros) - spent


def locked_hold(connection: Connection, hold_id: str) -> Row[Any]:
    """A hold's row, locked until the transaction ends.

    Raises:
        HoldNotOpen: the ledger has no such hold.
    """
    found = connection.execute(
        select(hold).where(hold.c.hold_id == hold_id).with_for_update()
    ).first()
    if found is None:
        raise HoldNotOpen("the ledger has no such hold")
    return found


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
    )


def open_of_batch(batch_id: str) -> Select[Any]:
    """The batch's open hold."""
    return select(hold).where(hold.c.batch_id == batch_id, hold.c.state == OPEN)


def all_open(connection: Connection) -> list[Hold]:
    """All open holds, oldest first."""
    statement = select(hold).where(hold.c.state == OPEN)
    ordered = statement.order_by(hold.c.created_us, hold.c.hold_id)
    return [hold_value(row) for row in connection.execute(ordered)]


def extend(
    connection: Connection, book: DayBook, row: Row[Any], micros: int, *, now: datetime
) -> None:
    """Add cover to a locked hold, on its own day.

    Raises:
        BudgetRefused: that day's limit does not cover it.
    """
    if micros <= 0:
        return
    connection.execute(
        update(hold)
        .where(hold.c.hold_id == row.hold_id)
        .values(amount_micros=hold.c.amount_micros + micros, extensions=hold.c.extensions + 1)
    )
    entry = Entry(
        kind="extend",
        key=f"extend:{row.hold_id}:{row.extensions + 1}",
        source="available",
        target="held",
        micros=micros,
        hold_id=row.hold_id,
    )
    book.take(connection, row.owner, row.budget_date, entry, now=now)
