"""Attempts: intents, images served again, and what the ledger says of both."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Text, and_, bindparam, case, func, insert, select

from assetgen_pipeline.adapters.sql_ledger_days import DayBook
from assetgen_pipeline.adapters.sql_ledger_holds import free_micros, move_hold, take_cover
from assetgen_pipeline.adapters.sql_ledger_instants import from_us, to_us
from assetgen_pipeline.adapters.sql_ledger_schema import attempt
from assetgen_pipeline.domain.budget import (
    AttemptRecord,
    AttemptRequest,
    AttemptState,
    AttemptToken,
    BookedImage,
    OwnedImage,
    StoredImage,
    budget_date_at,
)
from assetgen_pipeline.domain.errors import ContentTaken, IdempotencyConflict
from assetgen_pipeline.domain.money import Money

_IDS_PER_QUERY = 500
_of_item = (
    attempt.c.batch_id == bindparam("b_batch"),
    attempt.c.item_key == bindparam("b_item"),
)
_SO_FAR = select(
    func.coalesce(func.max(attempt.c.attempt_no), 0).label("number"),
    func.coalesce(
        func.max(case((attempt.c.state == AttemptState.INTENT.value, 1), else_=0)), 0
    ).label("in_flight"),
).where(*_of_item)
_INSERT = insert(attempt)
_LOCK_CONTENT = select(
    func.pg_advisory_xact_lock(func.hashtextextended(bindparam("b_content", type_=Text), 0))
)
_has_image = and_(attempt.c.state == AttemptState.CAPTURED.value, attempt.c.image_json.is_not(None))
_TWINS = select(
    func.count(case((attempt.c.state == AttemptState.INTENT.value, 1))).label("in_flight"),
    func.count(case((_has_image, 1))).label("served"),
).where(attempt.c.owner == bindparam("b_owner"), attempt.c.image_id == bindparam("b_image"))
_STATE = select(attempt.c.state).where(attempt.c.attempt_id == bindparam("b_attempt"))


def open_attempt(
    connection: Connection, book: DayBook, row: Row[Any], request: AttemptRequest, *, now: datetime
) -> AttemptToken:
    """Insert an intent and set its ceiling aside in the hold; valid once committed.

    Raises:
        BudgetRefused: the hold has too little left, and so has its day.
        ContentTaken: the owner has the image, or is having it made.
        IdempotencyConflict: the item has an attempt in flight.
    """
    number, in_flight = so_far(connection, row.batch_id, request.item_key)
    if in_flight:
        raise IdempotencyConflict("the item has an attempt in flight already")
    if request.once:
        _refuse_twins(connection, row.owner, request)
    values = _new_attempt(book, row, request, number + 1, now=now)
    ceiling = request.ceiling.micros
    missing = max(0, ceiling - (0 if request.further else free_micros(row)))
    if missing:
        take_cover(connection, row, missing, now=now)
    move_hold(connection, row.hold_id, amount=missing, inflight=ceiling)
    connection.execute(_INSERT, values)
    return AttemptToken.mint(
        attempt_id=values["attempt_id"], attempt_no=values["attempt_no"], ceiling=request.ceiling
    )


def _refuse_twins(connection: Connection, owner: str, request: AttemptRequest) -> None:
    """Make sure that nobody pays for an image that the owner has, or is having made.

    Raises:
        ContentTaken: somebody else was first.
    """
    image_id = request.image_id
    if connection.dialect.name == "postgresql":
        # SQLite has one writer at a time; here two could look before either has written.
        connection.execute(_LOCK_CONTENT, {"b_content": f"{owner}/{image_id}"})
    twins = connection.execute(_TWINS, {"b_owner": owner, "b_image": image_id}).one()
    if twins.in_flight or twins.served > request.gone:
        raise ContentTaken("the owner has this image, or is having it made")


def is_in_flight(connection: Connection, attempt_id: str) -> bool:
    """Whether the attempt exists and is unresolved."""
    state = connection.scalar(_STATE, {"b_attempt": attempt_id})
    return bool(state == AttemptState.INTENT.value)


def so_far(connection: Connection, batch_id: str, item_key: str) -> tuple[int, bool]:
    """An item's newest attempt number, and whether one of its attempts is in flight."""
    found = connection.execute(_SO_FAR, {"b_batch": batch_id, "b_item": item_key}).one()
    return found.number, bool(found.in_flight)


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
    number, _in_flight = so_far(connection, row.batch_id, request.item_key)
    values = _new_attempt(book, row, request, number + 1, now=now) | {
        "ceiling_micros": 0,
        "state": AttemptState.CAPTURED.value,
        "cost_micros": 0,
        "cost_basis": "reused",
        "image_json": image_json,
        "resolved_us": to_us(now),
    }
    connection.execute(_INSERT, values)


def of_batch(
    connection: Connection, batch_id: str, *, since: datetime | None
) -> list[AttemptRecord]:
    """All attempts of a batch, oldest first; those that changed at or after `since`."""
    columns = attempt.c
    statement = select(attempt).where(columns.batch_id == batch_id)
    if since is not None:
        changed_us = func.coalesce(columns.resolved_us, columns.intent_us)
        statement = statement.where(changed_us >= to_us(since))
    statement = statement.order_by(
        columns.intent_us, columns.row_number, columns.variant, columns.attempt_no
    )
    return [record(row) for row in connection.execute(statement)]


def images(connection: Connection, owner: str, image_ids: Sequence[str]) -> dict[str, OwnedImage]:
    """The newest stored image of each content address that the owner paid for."""
    ids = list(dict.fromkeys(image_ids))
    newest: dict[str, str] = {}
    served: Counter[str] = Counter()
    for start in range(0, len(ids), _IDS_PER_QUERY):
        statement = select(attempt.c.image_id, attempt.c.image_json).where(
            attempt.c.owner == owner,
            attempt.c.image_id.in_(ids[start : start + _IDS_PER_QUERY]),
            _has_image,
        )
        for image_id, image_json in connection.execute(statement.order_by(attempt.c.resolved_us)):
            newest[image_id] = image_json
            served[image_id] += 1
    return {
        image_id: OwnedImage(
            image=StoredImage.model_validate_json(image_json), served=served[image_id]
        )
        for image_id, image_json in newest.items()
    }


def users_of_images(
    connection: Connection, owner: str, image_ids: Sequence[str]
) -> dict[str, set[str]]:
    """The batches of the owner that have a stored image, by its content address."""
    ids = list(dict.fromkeys(image_ids))
    users: dict[str, set[str]] = {}
    for start in range(0, len(ids), _IDS_PER_QUERY):
        statement = select(attempt.c.image_id, attempt.c.batch_id).where(
            attempt.c.owner == owner,
            attempt.c.image_id.in_(ids[start : start + _IDS_PER_QUERY]),
            attempt.c.image_json.is_not(None),
        )
        for image_id, batch_id in connection.execute(statement.distinct()):
            users.setdefault(image_id, set()).add(batch_id)
    return users


def booked_images(connection: Connection, batch_id: str | None) -> list[BookedImage]:
    """Captured attempts that have an image, of one batch or of all."""
    statement = select(attempt.c.attempt_id, attempt.c.batch_id, attempt.c.image_json).where(
        _has_image
    )
    if batch_id is not None:
        statement = statement.where(attempt.c.batch_id == batch_id)
    return [
        BookedImage(
            attempt_id=row.attempt_id,
            batch_id=row.batch_id,
            object_name=StoredImage.model_validate_json(row.image_json).object_name,
        )
        for row in connection.execute(statement.order_by(attempt.c.resolved_us))
    ]


def states(connection: Connection, attempt_ids: Sequence[str]) -> dict[str, AttemptState]:
    """Where each of these attempts stands; unknown ones are left out."""
    ids = list(dict.fromkeys(attempt_ids))
    found: dict[str, AttemptState] = {}
    for start in range(0, len(ids), _IDS_PER_QUERY):
        statement = select(attempt.c.attempt_id, attempt.c.state).where(
            attempt.c.attempt_id.in_(ids[start : start + _IDS_PER_QUERY])
        )
        found |= {name: AttemptState(state) for name, state in connection.execute(statement)}
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
    book: DayBook, row: Row[Any], request: AttemptRequest, number: int, *, now: datetime
) -> dict[str, Any]:
    """The values of an item's next attempt, not yet inserted."""
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
