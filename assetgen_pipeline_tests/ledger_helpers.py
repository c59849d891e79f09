"""What the ledger's tests share."""

from collections.abc import Iterable
from zoneinfo import ZoneInfo

from sqlalchemy import event

from assetgen_pipeline.adapters import sql_ledger_steps
from assetgen_pipeline.adapters.sql_ledger import open_sql_ledger
from assetgen_pipeline.domain.budget import AttemptRequest, StoredImage
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.ports.ledger import Ledger
from assetgen_pipeline.testing.clock import ManualClock

LIMIT = 1000
IMAGE = StoredImage.of(
    b"x",
    object_name="images/a.png",
    thumbnail_name="thumbnails/a.jpg",
    mime_type="image/png",
    size=(8, 8),
)


def request(item: str = "i1", ceiling: int = 100, **changes) -> AttemptRequest:
    values = {
        "item_key": item,
        "image_id": f"image-{item}",
        "row_number": 1,
        "scene_id": "s1",
        "variant": 1,
        "provider": "local",
        "model": "storyboard",
        "lane": "stable",
        "run_id": "run-1",
        "ceiling": Money(ceiling),
    }
    return AttemptRequest(**(values | changes))


def broken(ledger: Ledger) -> list[str]:
    return [f"{check.name} {found}" for check in ledger.verify() for found in check.violations]


def open_real(url: str, limit: int, project: int | None = None, clock=None):
    """Real books at an instant of their own, the same in every process: no midnight comes."""
    return open_sql_ledger(
        url,
        clock=clock or ManualClock(),
        time_zone=ZoneInfo("UTC"),
        default_limit=Money(limit),
        project_limit=None if project is None else Money(project),
    )


def paid(ledger: Ledger, batches: Iterable[str]) -> dict[str, int]:
    """What the ledger counts as spent, by attempt."""
    return {
        one.attempt_id: one.cost.micros
        for batch in batches
        for one in ledger.attempts(batch)
        if one.cost is not None
    }


def reserve(ledger, amount=300, batch="b1", owner="ann", run="run-1", price="p1"):
    return ledger.reserve(
        owner=owner, batch_id=batch, run_id=run, amount=Money(amount), price_version=price
    )


def capture(ledger, token, cost, image=IMAGE, basis="usage"):
    ledger.capture(token, cost=Money(cost), cost_basis=basis, image=image)


def figures(ledger, owner="ann"):
    day = ledger.day(owner)
    return day.held.micros, day.settled.micros, day.overrun.micros


def on_statements(engine, *, before=None, after=None):
    """Hear of each statement, also of those that the driver is handed directly."""
    ignore = lambda *_: None  # noqa: E731
    before, after = before or ignore, after or ignore
    event.listen(engine, "before_cursor_execute", lambda c, _cursor, text, *_: before(c, text))
    event.listen(engine, "after_cursor_execute", lambda c, _cursor, text, *_: after(c, text))
    real = sql_ledger_steps.send

    def send(connection, statement, values):
        if connection.engine is not engine:
            return real(connection, statement, values)
        text = statement.on(connection.dialect).text
        before(connection, text)
        cursor = real(connection, statement, values)
        after(connection, text)
        return cursor

    sql_ledger_steps.send = send
