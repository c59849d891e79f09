"""Sums over all attempts, for metrics: one pass over the table each."""

from collections import Counter

from sqlalchemy import Connection, Select, case, func, select
from sqlalchemy.sql.elements import ColumnElement

from assetgen_pipeline.adapters.sql_ledger_schema import attempt
from assetgen_pipeline.domain.metrics import LedgerFigures

_DELIVERED, _BLOCKED, _FAILED, _OPEN = 3, 2, 1, 0
_IMAGE_STATUS = {
    _DELIVERED: "delivered",
    _BLOCKED: "blocked",
    _FAILED: "failed",
    _OPEN: "not_attempted",
}


def figures(connection: Connection) -> LedgerFigures:
    """What the attempts add up to."""
    images, rows = _items(connection)
    return LedgerFigures(
        images=images,
        rows=rows,
        attempts={(row[0], row[1]): row[2] for row in connection.execute(_attempts())},
        costs=_money(connection, attempt.c.cost_micros, attempt.c.cost_micros > 0),
        inflight=_money(connection, attempt.c.ceiling_micros, attempt.c.state == "intent"),
    )


def _items(connection: Connection) -> tuple[dict[str, int], dict[str, int]]:
    """Images and rows by status: an image by its best attempt, a row by its images."""
    best = func.max(
        case(
            (attempt.c.image_json.is_not(None), _DELIVERED),
            (attempt.c.code == "provider-blocked", _BLOCKED),
            (attempt.c.state == "intent", _OPEN),
            else_=_FAILED,
        )
    )
    items = (
        select(attempt.c.batch_id, attempt.c.scene_id, best.label("status"))
        .group_by(attempt.c.batch_id, attempt.c.scene_id, attempt.c.item_key)
        .subquery()
    )
    per_row = select(
        func.max(items.c.status).label("best"), func.min(items.c.status).label("worst")
    ).group_by(items.c.batch_id, items.c.scene_id)
    rows_by = per_row.subquery()
    by_best_and_worst = select(rows_by.c.best, rows_by.c.worst, func.count()).group_by(
        rows_by.c.best, rows_by.c.worst
    )
    rows: Counter[str] = Counter()
    for top, bottom, count in connection.execute(by_best_and_worst):
        partial = top == _DELIVERED and bottom != _DELIVERED
        rows["partial" if partial else _IMAGE_STATUS[top]] += count
    by_status = select(items.c.status, func.count()).group_by(items.c.status)
    images = {_IMAGE_STATUS[status]: count for status, count in connection.execute(by_status)}
    return images, dict(rows)


def _attempts() -> Select[str, str, int]:
    outcome = case(
        (attempt.c.cost_basis == "reused", "reused"),
        (attempt.c.code == "", "delivered"),
        else_=attempt.c.code,
    )
    ended = attempt.c.state != "intent"
    return (
        select(attempt.c.provider, outcome, func.count())
        .where(ended)
        .group_by(attempt.c.provider, outcome)
    )


def _money(
    connection: Connection, amount: ColumnElement[int], condition: ColumnElement[bool]
) -> dict[tuple[str, str], int]:
    statement = (
        select(attempt.c.owner, attempt.c.provider, func.sum(amount))
        .where(condition)
        .group_by(attempt.c.owner, attempt.c.provider)
    )
    return {
        (owner, provider): int(micros) for owner, provider, micros in connection.execute(statement)
    }
