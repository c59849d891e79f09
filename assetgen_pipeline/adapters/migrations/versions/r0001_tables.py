"""The ledger's tables. Frozen: later changes are later revisions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
DATE = sa.Date().with_variant(sa.Text(), "sqlite")
NONE = sa.text("0")


def upgrade() -> None:
    """Create every table."""
    _create_budget_day()
    _create_budget_decision()
    _create_budget_limit()
    _create_hold()
    _create_journal()
    _create_attempt()


def _create_budget_day() -> None:
    op.create_table(
        "budget_day",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("budget_date", DATE, nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("starts_at_us", COUNT, nullable=False),
        sa.Column("ends_at_us", COUNT, nullable=False),
        sa.Column("limit_micros", COUNT, nullable=False),
        sa.Column("held_micros", COUNT, server_default=NONE, nullable=False),
        sa.Column("settled_micros", COUNT, server_default=NONE, nullable=False),
        sa.Column("overrun_micros", COUNT, server_default=NONE, nullable=False),
        sa.Column("version", COUNT, server_default=NONE, nullable=False),
        sa.CheckConstraint(
            "held_micros + settled_micros <= limit_micros + overrun_micros", name="never_exceed"
        ),
        sa.CheckConstraint("held_micros >= 0", name="held_micros_not_negative"),
        sa.CheckConstraint("limit_micros >= 0", name="limit_micros_not_negative"),
        sa.CheckConstraint("overrun_micros >= 0", name="overrun_micros_not_negative"),
        sa.CheckConstraint("settled_micros >= 0", name="settled_micros_not_negative"),
        sa.PrimaryKeyConstraint("scope", "budget_date"),
        sqlite_strict=True,
    )


def _create_budget_decision() -> None:
    op.create_table(
        "budget_decision",
        sa.Column("decision_id", COUNT, autoincrement=True, nullable=False),
        sa.Column("decided_us", COUNT, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("budget_date", DATE, nullable=False),
        sa.Column("batch_id", sa.Text(), server_default="", nullable=False),
        sa.Column("run_id", sa.Text(), server_default="", nullable=False),
        sa.Column("attempt_id", sa.Text(), server_default="", nullable=False),
        sa.Column("estimate_micros", COUNT, nullable=False),
        sa.Column("headroom_micros", COUNT, nullable=False),
        sa.Column("limit_micros", COUNT, nullable=False),
        sa.Column("actor", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint(
            "outcome IN ('allowed', 'refused', 'overrun', 'limit')", name="decision_outcome"
        ),
        sa.PrimaryKeyConstraint("decision_id"),
        sqlite_strict=True,
    )
    op.create_index("ix_budget_decision_owner", "budget_decision", ["owner"], unique=False)


def _create_budget_limit() -> None:
    op.create_table(
        "budget_limit",
        sa.Column("limit_id", COUNT, autoincrement=True, nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("limit_micros", COUNT, nullable=False),
        sa.Column("set_by", sa.Text(), nullable=False),
        sa.Column("set_us", COUNT, nullable=False),
        sa.CheckConstraint("limit_micros >= 0", name="set_limit_not_negative"),
        sa.PrimaryKeyConstraint("limit_id"),
        sqlite_strict=True,
    )
    op.create_index("ix_budget_limit_owner", "budget_limit", ["owner"], unique=False)


def _create_hold() -> None:
    op.create_table(
        "hold",
        sa.Column("hold_id", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("budget_date", DATE, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("price_version", sa.Text(), nullable=False),
        sa.Column("amount_micros", COUNT, nullable=False),
        sa.Column("inflight_micros", COUNT, server_default=NONE, nullable=False),
        sa.Column("drawn_micros", COUNT, server_default=NONE, nullable=False),
        sa.Column("released_micros", COUNT, server_default=NONE, nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column("fence", COUNT, server_default=sa.text("1"), nullable=False),
        sa.Column("extensions", COUNT, server_default=NONE, nullable=False),
        sa.Column("created_us", COUNT, nullable=False),
        sa.Column("closed_us", COUNT, nullable=True),
        sa.CheckConstraint(
            "state = 'open' OR (drawn_micros + released_micros = amount_micros AND inflight_micros = 0)",
            name="closed_hold_is_empty",
        ),
        sa.CheckConstraint("state IN ('open', 'closed')", name="hold_state"),
        sa.CheckConstraint("amount_micros >= 0", name="amount_micros_not_negative"),
        sa.CheckConstraint(
            "drawn_micros + released_micros + inflight_micros <= amount_micros", name="hold_cover"
        ),
        sa.CheckConstraint("drawn_micros >= 0", name="drawn_micros_not_negative"),
        sa.CheckConstraint("inflight_micros >= 0", name="inflight_micros_not_negative"),
        sa.CheckConstraint("released_micros >= 0", name="released_micros_not_negative"),
        sa.ForeignKeyConstraint(
            ["scope", "budget_date"],
            ["budget_day.scope", "budget_day.budget_date"],
            name="hold_day",
        ),
        sa.PrimaryKeyConstraint("hold_id"),
        sa.UniqueConstraint("idempotency_key"),
        sqlite_strict=True,
    )
    op.create_index("ix_hold_batch", "hold", ["batch_id"], unique=False)
    op.create_index("ix_hold_day", "hold", ["scope", "budget_date"], unique=False)
    op.create_index(
        "one_open_hold_per_batch",
        "hold",
        ["batch_id"],
        unique=True,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )


def _create_journal() -> None:
    op.create_table(
        "journal",
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("budget_date", DATE, nullable=False),
        sa.Column("day_version", COUNT, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("from_bucket", sa.Text(), nullable=False),
        sa.Column("to_bucket", sa.Text(), nullable=False),
        sa.Column("amount_micros", COUNT, nullable=False),
        sa.Column("hold_id", sa.Text(), nullable=False),
        sa.Column("attempt_id", sa.Text(), server_default="", nullable=False),
        sa.Column("held_after", COUNT, nullable=False),
        sa.Column("settled_after", COUNT, nullable=False),
        sa.Column("recorded_us", COUNT, nullable=False),
        sa.CheckConstraint("amount_micros > 0", name="journal_amount"),
        sa.CheckConstraint("from_bucket <> to_bucket", name="journal_moves"),
        sa.ForeignKeyConstraint(
            ["scope", "budget_date"],
            ["budget_day.scope", "budget_day.budget_date"],
            name="journal_day",
        ),
        sa.PrimaryKeyConstraint("idempotency_key"),
        sa.UniqueConstraint("scope", "budget_date", "day_version", name="journal_version"),
        sqlite_strict=True,
    )


def _create_attempt() -> None:
    op.create_table(
        "attempt",
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("hold_id", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("budget_date", DATE, nullable=False),
        sa.Column("item_key", sa.Text(), nullable=False),
        sa.Column("attempt_no", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.Text(), nullable=False),
        sa.Column("row_number", sa.Integer(), nullable=False),
        sa.Column("scene_id", sa.Text(), nullable=False),
        sa.Column("variant", sa.Integer(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("price_version", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("ceiling_micros", COUNT, nullable=False),
        sa.Column("cost_micros", COUNT, nullable=True),
        sa.Column("covered_micros", COUNT, server_default=NONE, nullable=False),
        sa.Column("cost_basis", sa.Text(), server_default="none", nullable=False),
        sa.Column("code", sa.Text(), server_default="", nullable=False),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.Column("image_json", sa.Text(), nullable=True),
        sa.Column("latency_ms", COUNT, server_default=NONE, nullable=False),
        sa.Column("request_id", sa.Text(), server_default="", nullable=False),
        sa.Column("spend_date", DATE, nullable=False),
        sa.Column("intent_us", COUNT, nullable=False),
        sa.Column("resolved_us", COUNT, nullable=True),
        sa.CheckConstraint("(state = 'intent') = (resolved_us IS NULL)", name="resolved_has_time"),
        sa.CheckConstraint(
            "(state IN ('captured', 'assumed')) = (cost_micros IS NOT NULL)",
            name="cost_when_billed",
        ),
        sa.CheckConstraint(
            "state IN ('intent', 'captured', 'voided', 'assumed')", name="attempt_state"
        ),
        sa.CheckConstraint("ceiling_micros >= 0", name="ceiling_micros_not_negative"),
        sa.CheckConstraint("cost_micros >= 0", name="cost_micros_not_negative"),
        sa.CheckConstraint("covered_micros <= coalesce(cost_micros, 0)", name="cover_within_cost"),
        sa.CheckConstraint("covered_micros >= 0", name="covered_micros_not_negative"),
        sa.ForeignKeyConstraint(["hold_id"], ["hold.hold_id"], name="attempt_hold"),
        sa.PrimaryKeyConstraint("attempt_id"),
        sa.UniqueConstraint("batch_id", "item_key", "attempt_no", name="attempt_number"),
        sqlite_strict=True,
    )
    op.create_index("ix_attempt_day", "attempt", ["owner", "budget_date", "state"], unique=False)
    op.create_index("ix_attempt_hold", "attempt", ["hold_id"], unique=False)
    op.create_index("ix_attempt_image", "attempt", ["owner", "image_id"], unique=False)
    op.create_index(
        "one_intent_per_item",
        "attempt",
        ["batch_id", "item_key"],
        unique=True,
        sqlite_where=sa.text("state = 'intent'"),
        postgresql_where=sa.text("state = 'intent'"),
    )
