"""A batch's first reservation, in statements of which none needs the answer to another.

Each does nothing where it does not apply, and how many rows it changed says whether it did.
So PostgreSQL gets all of them in one message. Where one changed less than it should, the
transaction must be rolled back, and the reservation begins anew with a look.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, Text, bindparam, func, select

from assetgen_pipeline.adapters.sql_ledger_days import (
    ALLOW,
    CLOCK_SLACK_US,
    INSERTS,
    IS_CARRIED,
    LIMIT_SET,
    NEWEST_US,
    DayBook,
    carried_values,
)
from assetgen_pipeline.adapters.sql_ledger_journal import (
    LINE,
    SCOPES,
    Entry,
    line_values,
    owner_scope,
    take_under,
    target,
)
from assetgen_pipeline.adapters.sql_ledger_openings import Wanted, named
from assetgen_pipeline.adapters.sql_ledger_schema import LocalDate, budget_day, hold, journal
from assetgen_pipeline.adapters.sql_ledger_steps import Statement, Step, all_change
from assetgen_pipeline.domain.budget import Hold, budget_date_at

_scope = bindparam("b_scope", type_=Text)
_today = bindparam("b_date", type_=LocalDate)
_now_us = bindparam("b_now", type_=BigInteger)
_row: dict[str, Any] = {
    "hold_id": bindparam("b_hold", type_=Text),
    "idempotency_key": bindparam("b_key", type_=Text),
    "batch_id": bindparam("b_batch", type_=Text),
    "owner": bindparam("b_owner", type_=Text),
    "scope": _scope,
    "budget_date": _today,
    "run_id": bindparam("b_run", type_=Text),
    "worker": bindparam("b_worker", type_=Text),
    "price_version": bindparam("b_prices", type_=Text),
    "amount_micros": bindparam("b_micros", type_=BigInteger),
    "created_us": _now_us,
}
# Only where the owner's today has its row and is no day that another time zone began, where the
# clock did not go back, and where the batch never had a hold: the key says so.
_holds = select(*_row.values()).where(
    budget_day.c.scope == _scope,
    budget_day.c.budget_date == _today,
    ~IS_CARRIED,
    func.coalesce(NEWEST_US, 0) <= _now_us + CLOCK_SLACK_US,
)
_HOLD = {
    name: make(hold).from_select(list(_row), _holds).on_conflict_do_nothing()
    for name, make in INSERTS.items()
}
_TAKE = take_under(target(func.coalesce(LIMIT_SET, bindparam("b_default_limit", type_=BigInteger))))
_JOURNAL = {
    name: make(journal).from_select(*LINE).on_conflict_do_nothing()
    for name, make in INSERTS.items()
}


_STEPS = (
    Step(Statement(_HOLD), 1),
    Step(Statement(_TAKE), SCOPES),
    Step(Statement(_JOURNAL), SCOPES),
    Step(Statement(ALLOW), 1),
)


class NotAtOnce(Exception):
    """There is more to be looked at; the transaction must not be committed."""


def reserve_at_once(
    connection: Connection, book: DayBook, wanted: Wanted, *, now: datetime
) -> Hold:
    """Open and cover the batch's first hold.

    Raises:
        NotAtOnce: the batch, its day or its limit needs a look.
    """
    if not wanted.amount.micros:
        raise NotAtOnce
    hold_id, key = named(wanted, 1)
    day = budget_date_at(now, book.time_zone)
    entry = Entry(
        kind="reserve",
        key=key,
        source="available",
        target="held",
        micros=wanted.amount.micros,
        hold_id=hold_id,
    )
    values = (
        line_values([entry], now)[0]
        | carried_values(book, now)
        | {
            "b_owner": wanted.owner,
            "b_scope": owner_scope(wanted.owner),
            "b_date": day,
            "b_batch": wanted.batch_id,
            "b_run": wanted.run_id,
            "b_worker": wanted.worker,
            "b_prices": wanted.price_version,
            "b_default_limit": book.default_limit.micros,
            "b_project_limit": book.limits(None).project.micros,
        }
    )
    if not all_change(connection, _STEPS, values):
        raise NotAtOnce
    return Hold(
        hold_id=hold_id,
        batch_id=wanted.batch_id,
        owner=wanted.owner,
        budget_date=day,
        amount=wanted.amount,
        fence=1,
        run_id=wanted.run_id,
        worker=wanted.worker,
        opened_at=now,
    )
