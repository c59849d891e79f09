"""What each lane of a rollout did."""

from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, case, func, select

from assetgen_pipeline.adapters.sql_ledger_instants import to_us
from assetgen_pipeline.adapters.sql_ledger_schema import attempt
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.lanes import LaneFigures, sum_of
from assetgen_pipeline.domain.money import Money


def lane_figures(connection: Connection, since: datetime) -> list[LaneFigures]:
    """Images first asked for at or after `since` that are at an end, by lane and model."""
    one = attempt.c
    is_open = case((one.state == AttemptState.INTENT.value, 1), else_=0)
    has_image = case((one.image_json.is_not(None), 1), else_=0)
    images = (
        select(
            one.lane,
            one.provider,
            one.model,
            func.max(has_image).label("delivered"),
            func.coalesce(func.sum(one.cost_micros), 0).label("cost"),
            func.sum(one.latency_ms).label("latency"),
        )
        .where(one.intent_us >= to_us(since), one.cost_basis != "reused")
        .group_by(one.lane, one.provider, one.model, one.batch_id, one.item_key)
        .having(func.max(is_open) == 0)
        .subquery()
    )
    columns = images.c
    keys = (columns.lane, columns.provider, columns.model)
    alike = (*keys, columns.delivered, columns.latency)
    statement = select(*alike, func.count().label("images"), func.sum(columns.cost).label("cost"))
    rows = connection.execute(statement.group_by(*alike).order_by(*keys))
    return [
        sum_of([_figures(row) for row in same], lane=lane, provider=provider, model=model)
        for (lane, provider, model), same in groupby(rows, key=lambda row: row[:3])
    ]


def _figures(row: Row[Any]) -> LaneFigures:
    """Images of one lane and model that took equally long, delivered or not."""
    return LaneFigures(
        lane=row.lane,
        provider=row.provider,
        model=row.model,
        images=row.images,
        delivered=row.images * row.delivered,
        cost=Money(int(row.cost)),
        latencies=((int(row.latency), row.images),) if row.delivered else (),
    )
