"""What the books say of one batch, row by row, as they are."""

from typing import Any

from sqlalchemy import Connection, Table, or_, select

from assetgen_pipeline.adapters.sql_ledger_schema import attempt, budget_decision, hold, journal


def batch_slice(connection: Connection, batch_id: str) -> dict[str, list[dict[str, Any]]]:
    """Holds, attempts, decisions and journal entries of a batch, oldest first."""
    holds = select(hold.c.hold_id).where(hold.c.batch_id == batch_id)
    attempts = select(attempt.c.attempt_id).where(attempt.c.batch_id == batch_id)
    conditions = {
        hold: hold.c.batch_id == batch_id,
        attempt: attempt.c.batch_id == batch_id,
        budget_decision: budget_decision.c.batch_id == batch_id,
        journal: or_(journal.c.hold_id.in_(holds), journal.c.attempt_id.in_(attempts)),
    }
    order = {
        hold: hold.c.created_us,
        attempt: attempt.c.intent_us,
        budget_decision: budget_decision.c.decision_id,
        journal: journal.c.day_version,
    }
    return {
        table.name: _rows(connection, table, conditions[table], order[table])
        for table in conditions
    }


def _rows(connection: Connection, table: Table, condition: Any, order: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    found = connection.execute(select(table).where(condition).order_by(order)).mappings()
    return [dict(row) for row in found]
