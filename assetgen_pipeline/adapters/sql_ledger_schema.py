"""The ledger's tables, for SQLite and PostgreSQL alike.

SQLite tables are STRICT, because a plain SQLite column of type BIGINT would keep text.
What existing databases get is written down in `migrations/`; a test compares the two.
"""

from datetime import date
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

OPEN = "open"
CLOSED = "closed"
EXPIRED = "expired"

metadata = MetaData()
Count = BigInteger().with_variant(Integer(), "sqlite")


class LocalDate(TypeDecorator[date]):
    """A date: DATE on PostgreSQL, ISO text on SQLite, which has no such type."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column's type on this engine."""
        return dialect.type_descriptor(Date() if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: date | None, dialect: Dialect) -> object:
        """Hand a date over."""
        return value if value is None or dialect.name == "postgresql" else value.isoformat()

    def process_result_value(self, value: object, dialect: Dialect) -> date | None:  # noqa: ARG002
        """Read a date back."""
        return date.fromisoformat(value) if isinstance(value, str) else value  # type: ignore[return-value]


def _count(name: str) -> Column[int]:
    return Column(name, Count, nullable=False, server_default=text("0"))


def _not_negative(*names: str) -> list[CheckConstraint]:
    return [CheckConstraint(f"{name} >= 0", name=f"{name}_not_negative") for name in names]


budget_day = Table(
    "budget_day",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("budget_date", LocalDate, primary_key=True),
    Column("time_zone", Text, nullable=False),
    Column("starts_at_us", Count, nullable=False),
    Column("ends_at_us", Count, nullable=False),
    Column("limit_micros", Count, nullable=False),
    _count("held_micros"),
    _count("settled_micros"),
    _count("overrun_micros"),
    _count("version"),
    *_not_negative("limit_micros", "held_micros", "settled_micros", "overrun_micros"),
    CheckConstraint(
        "held_micros + settled_micros <= limit_micros + overrun_micros", name="never_exceed"
    ),
    sqlite_strict=True,
)

hold = Table(
    "hold",
    metadata,
    Column("hold_id", Text, primary_key=True),
    Column("idempotency_key", Text, nullable=False, unique=True),
    Column("batch_id", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("budget_date", LocalDate, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("price_version", Text, nullable=False),
    Column("amount_micros", Count, nullable=False),
    _count("inflight_micros"),
    _count("drawn_micros"),
    _count("released_micros"),
    Column("state", Text, nullable=False, server_default=OPEN),
    Column("fence", Count, nullable=False, server_default=text("1")),
    _count("extensions"),
    Column("created_us", Count, nullable=False),
    Column("closed_us", Count),
    Column("worker", Text, nullable=False, server_default=""),
    ForeignKeyConstraint(
        ["scope", "budget_date"], ["budget_day.scope", "budget_day.budget_date"], name="hold_day"
    ),
    *_not_negative("amount_micros", "inflight_micros", "drawn_micros", "released_micros"),
    CheckConstraint("state IN ('open', 'closed', 'expired')", name="hold_state"),
    CheckConstraint(
        "drawn_micros + released_micros + inflight_micros <= amount_micros", name="hold_cover"
    ),
    CheckConstraint(
        "state = 'open' OR"
        " (drawn_micros + released_micros = amount_micros AND inflight_micros = 0)",
        name="closed_hold_is_empty",
    ),
    sqlite_strict=True,
)
_open = text("state = 'open'")
Index(
    "one_open_hold_per_batch",
    hold.c.batch_id,
    unique=True,
    sqlite_where=_open,
    postgresql_where=_open,
)
Index("ix_hold_batch", hold.c.batch_id)
Index("ix_hold_day", hold.c.scope, hold.c.budget_date)

attempt = Table(
    "attempt",
    metadata,
    Column("attempt_id", Text, primary_key=True),
    Column("hold_id", Text, ForeignKey("hold.hold_id", name="attempt_hold"), nullable=False),
    Column("batch_id", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("budget_date", LocalDate, nullable=False),
    Column("item_key", Text, nullable=False),
    Column("attempt_no", Integer, nullable=False),
    Column("image_id", Text, nullable=False),
    Column("row_number", Integer, nullable=False),
    Column("scene_id", Text, nullable=False),
    Column("variant", Integer, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("price_version", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("ceiling_micros", Count, nullable=False),
    Column("cost_micros", Count),
    _count("covered_micros"),
    Column("cost_basis", Text, nullable=False, server_default="none"),
    Column("code", Text, nullable=False, server_default=""),
    Column("detail", Text, nullable=False, server_default=""),
    Column("image_json", Text),
    _count("latency_ms"),
    Column("request_id", Text, nullable=False, server_default=""),
    Column("spend_date", LocalDate, nullable=False),
    Column("intent_us", Count, nullable=False),
    Column("resolved_us", Count),
    *_not_negative("ceiling_micros", "cost_micros", "covered_micros"),
    CheckConstraint("state IN ('intent', 'captured', 'voided', 'assumed')", name="attempt_state"),
    CheckConstraint(
        "(state IN ('captured', 'assumed')) = (cost_micros IS NOT NULL)", name="cost_when_billed"
    ),
    CheckConstraint("(state = 'intent') = (resolved_us IS NULL)", name="resolved_has_time"),
    CheckConstraint("covered_micros <= coalesce(cost_micros, 0)", name="cover_within_cost"),
    UniqueConstraint("batch_id", "item_key", "attempt_no", name="attempt_number"),
    sqlite_strict=True,
)
_unresolved = text("state = 'intent'")
Index(
    "one_intent_per_item",
    attempt.c.batch_id,
    attempt.c.item_key,
    unique=True,
    sqlite_where=_unresolved,
    postgresql_where=_unresolved,
)
_unbilled = text("state = 'assumed'")
Index(
    "ix_attempt_assumed",
    attempt.c.intent_us,
    sqlite_where=_unbilled,
    postgresql_where=_unbilled,
)
Index("ix_attempt_hold", attempt.c.hold_id)
Index("ix_attempt_image", attempt.c.owner, attempt.c.image_id)
Index("ix_attempt_day", attempt.c.owner, attempt.c.budget_date, attempt.c.state)

journal = Table(
    "journal",
    metadata,
    Column("idempotency_key", Text, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("budget_date", LocalDate, nullable=False),
    Column("day_version", Count, nullable=False),
    Column("kind", Text, nullable=False),
    Column("from_bucket", Text, nullable=False),
    Column("to_bucket", Text, nullable=False),
    Column("amount_micros", Count, nullable=False),
    Column("hold_id", Text, nullable=False),
    Column("attempt_id", Text, nullable=False, server_default=""),
    Column("held_after", Count, nullable=False),
    Column("settled_after", Count, nullable=False),
    Column("recorded_us", Count, nullable=False),
    ForeignKeyConstraint(
        ["scope", "budget_date"], ["budget_day.scope", "budget_day.budget_date"], name="journal_day"
    ),
    CheckConstraint("amount_micros > 0", name="journal_amount"),
    CheckConstraint("from_bucket <> to_bucket", name="journal_moves"),
    UniqueConstraint("scope", "budget_date", "day_version", name="journal_version"),
    sqlite_strict=True,
)

budget_limit = Table(
    "budget_limit",
    metadata,
    Column("limit_id", Count, primary_key=True, autoincrement=True),
    Column("owner", Text, nullable=False, index=True),
    Column("limit_micros", Count, nullable=False),
    Column("set_by", Text, nullable=False),
    Column("set_us", Count, nullable=False),
    CheckConstraint("limit_micros >= 0", name="set_limit_not_negative"),
    sqlite_strict=True,
)

budget_decision = Table(
    "budget_decision",
    metadata,
    Column("decision_id", Count, primary_key=True, autoincrement=True),
    Column("decided_us", Count, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("owner", Text, nullable=False, index=True),
    Column("budget_date", LocalDate, nullable=False),
    Column("batch_id", Text, nullable=False, server_default=""),
    Column("run_id", Text, nullable=False, server_default=""),
    Column("attempt_id", Text, nullable=False, server_default=""),
    Column("estimate_micros", Count, nullable=False),
    Column("headroom_micros", Count, nullable=False),
    Column("limit_micros", Count, nullable=False),
    Column("actor", Text, nullable=False, server_default=""),
    CheckConstraint(
        "outcome IN ('allowed', 'refused', 'overrun', 'limit')", name="decision_outcome"
    ),
    sqlite_strict=True,
)
