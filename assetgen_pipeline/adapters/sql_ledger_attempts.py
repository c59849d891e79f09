"""Attempts: intents, images served again, and what the ledger says of both."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from assetgen_pipeline.adapters.sql_ledger_days import DayBook, from_us, to_us
from assetgen_pipeline.adapters.sql_ledger_holds import extend, free_micros
from assetgen_pipeline.adapters.sql_ledger_schema import attempt, hold
from assetgen_pipeline.domain.budget import (
    AttemptRecord,
    AttemptRequest,
    AttemptState,
    AttemptToken,
    StoredImage,
    budget_date_at,
)
from assetgen_pipeline.domain.errors import IdempotencyConflict
from assetgen_pipeline.domain.money import Money

_IDS_PER_QUERY = 500


def open_attempt(
    connection: Connection, book: DayBook, row: Row[Any], request: AttemptRequest, *, now: datetime
) -> AttemptToken:
    """Insert an intent and set its ceiling aside in the hold; valid once committed.

    Raises:
        BudgetRefused: the hold has too little left, and so has its day.
        IdempotencyConflict: the item has an attempt in flight.
    """
    if _in_flight(connection, row.batch_id, request.item_key) is not None:
        raise IdempotencyConflict("the item has an attempt in flight already")
    values = _new_attempt(connection, book, row, request, now=now)
    ceiling = request.ceiling.micros
    extend(connection, book, row, ceiling - free_micros(row), now=now)
    connection.execute(
        update(hold)
        .where(hold.c.hold_id == row.hold_id)
        .values(inflight_micros=hold.c.inflight_micros + ceiling)
    )
    connection.execute(insert(attempt).values(values))
    return AttemptToken.mint(
        attempt_id=values["attempt_id"], attempt_no=values["attempt_no"], ceiling=request.ceiling
    )


def is_in_flight(connection: Connection, attempt_id: str) -> bool:
    """Whether the attempt exists and is unresolved."""
    state = connection.scalar(select(attempt.c.state).where(attempt.c.attempt_id == attempt_id))
    return bool(state == AttemptState.INTENT.value)


def insert_reused(
    connection: Connection,
    book: DayBook,
    row: Row[Any],
    request: AttemptRequest,
    image: StoredImage,
    *,
    now: datetime,
) -> None:
    """Record that a stored image serves the item, once per hold."""
    image_json = image.model_dump_json()
    same = select(attempt.c.attempt_id).where(
        attempt.c.hold_id == row.hold_id,
        attempt.c.item_key == request.item_key,
        attempt.c.cost_basis == "reused",
        attempt.c.image_json == image_json,
    )
    if connection.scalar(same) is not None:
        return
    values = _new_attempt(connection, book, row, request, now=now) | {
        "ceiling_micros": 0,
        "state": AttemptState.CAPTURED.value,
        "cost_micros": 0,
        "cost_basis": "reused",
        "image_json": image_json,
        "resolved_us": to_us(now),
    }
    connection.execute(insert(attempt).values(values))


def of_batch(connection: Connection, batch_id: str) -> list[AttemptRecord]:
    """All attempts of a batch, oldest first."""
    columns = attempt.c
    statement = (
        select(attempt)
        .where(columns.batch_id == batch_id)
        .order_by(columns.intent_us, columns.row_number, columns.variant, columns.attempt_no)
    )
    return [record(row) for row in connection.execute(statement)]


def images(connection: Connection, owner: str, image_ids: Sequence[str]) -> dict[str, StoredImage]:
    """The newest stored image of each content address that the owner paid for."""
    ids = list(dict.fromkeys(image_ids))
    found: dict[str, StoredImage] = {}
    for start in range(0, len(ids), _IDS_PER_QUERY):
        statement = select(attempt.c.image_id, attempt.c.image_json).where(
            attempt.c.owner == owner,
            attempt.c.image_id.in_(ids[start : start + _IDS_PER_QUERY]),
            attempt.c.state == AttemptState.CAPTURED.value,
            attempt.c.image_json.is_not(None),
        )
        for image_id, image_json in connection.execute(statement.order_by(attempt.c.resolved_us)):
            found[image_id] = StoredImage.model_validate_json(image_json)
    return found


def record(row: Row[Any]) -> AttemptRecord:
    """The attempt as the domain knows it."""
    image = row.image_json
    return AttemptRecord(
        attempt_id=row.attempt_id,
        hold_id=row.hold_id,
        batch_id=row.batch_id,
        item_key=row.item_key,
        attempt_no=row.attempt_no,
        image_id=row.image_id,
        row_number=row.row_number,
        scene_id=row.scene_id,
        variant=row.variant,
        provider=row.provider,
        model=row.model,
        lane=row.lane,
        run_id=row.run_id,
        state=AttemptState(row.state),
        ceiling=Money(row.ceiling_micros),
        cost=None if row.cost_micros is None else Money(row.cost_micros),
        cost_basis=row.cost_basis,
        code=row.code,
        detail=row.detail,
        image=None if image is None else StoredImage.model_validate_json(image),
        latency_ms=row.latency_ms,
        price_version=row.price_version,
        spend_date=row.spend_date,
        budget_date=row.budget_date,
        intent_at=from_us(row.intent_us),
        resolved_at=None if row.resolved_us is None else from_us(row.resolved_us),
    )


def _new_attempt(
    connection: Connection, book: DayBook, row: Row[Any], request: AttemptRequest, *, now: datetime
) -> dict[str, Any]:
    """The values of an item's next attempt, not yet inserted."""
    numbers = select(func.max(attempt.c.attempt_no)).where(
        attempt.c.batch_id == row.batch_id, attempt.c.item_key == request.item_key
    )
    number = (connection.scalar(numbers) or 0) + 1
    name = f"{row.hold_id}/{request.item_key}/{number}"
    return {
        "attempt_id": hashlib.sha256(name.encode()).hexdigest(),
        "hold_id": row.hold_id,
        "batch_id": row.batch_id,
        "owner": row.owner,
        "budget_date": row.budget_date,
        "item_key": request.item_key,
        "attempt_no": number,
        "image_id": request.image_id,
        "row_number": request.row_number,
        "scene_id": request.scene_id,
        "variant": request.variant,
        "provider": request.provider,
        "model": request.model,
        "lane": request.lane,
        "run_id": request.run_id,
        "price_version": row.price_version,
        "ceiling_micros": request.ceiling.micros,
        "state": AttemptState.INTENT.value,
        "spend_date": budget_date_at(now, book.time_zone),
        "intent_us": to_us(now),
    }


def _in_flight(connection: Connection, batch_id: str, item_key: str) -> str | None:
    return connection.scalar(
        select(attempt.c.attempt_id).where(
            attempt.c.batch_id == batch_id,
            attempt.c.item_key == item_key,
            attempt.c.state == AttemptState.INTENT.value,
        )
    )
