"""Holds that expire, and the process that works on each. Frozen. Additive."""

import sqlalchemy as sa
from alembic import op

revision = "0101"
down_revision = "0002"

_FORMER = "state IN ('open', 'closed')"
_WIDER = "state IN ('open', 'closed', 'expired')"


def upgrade() -> None:
    """Widen the states, name the worker, index what nobody knows the bill of."""
    op.add_column("hold", sa.Column("worker", sa.Text(), server_default="", nullable=False))
    assumed = sa.text("state = 'assumed'")
    op.create_index(
        "ix_attempt_assumed",
        "attempt",
        ["intent_us"],
        unique=False,
        sqlite_where=assumed,
        postgresql_where=assumed,
    )
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("hold_state", "hold", type_="check")
        op.create_check_constraint("hold_state", "hold", _WIDER)
    else:
        _widen_in_place()


def _widen_in_place() -> None:
    """Replace the constraint's text, as SQLite's manual describes for changes of rules only.

    Rebuilding the table would need foreign keys off, which no transaction can do.
    """
    connection = op.get_bind()
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    changed = connection.execute(
        sa.text(
            "UPDATE sqlite_master SET sql = replace(sql, :former, :wider)"
            " WHERE type = 'table' AND name = 'hold' AND instr(sql, :former) > 0"
        ),
        {"former": _FORMER, "wider": _WIDER},
    )
    if changed.rowcount != 1:
        raise AssertionError("the constraint of `hold` is not the one that 0001 made")
    connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema = OFF")
