"""The journal's triggers and the views that analysts and checks read. Frozen."""

# Everything put into these statements is a constant of this file.
# ruff: noqa: S608

from alembic import op

revision = "0002"
down_revision = "0001"

USD = {"sqlite": "({} / 1000000.0)", "postgresql": "({} / 1000000.0)::numeric(18, 6)"}
INSTANT = {
    "sqlite": "strftime('%Y-%m-%dT%H:%M:%SZ', {} / 1000000, 'unixepoch')",
    "postgresql": "to_timestamp({} / 1000000.0)",
}
NOW_US = {
    "sqlite": "(CAST(strftime('%s', 'now') AS INTEGER) * 1000000)",
    "postgresql": "(extract(epoch FROM now()) * 1000000)",
}
SQLITE_TRIGGERS = """
CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table}
    BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END;
CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table}
    BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END
"""
POSTGRES_TRIGGERS = """
CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION ledger_append_only()
--
CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only()
"""
POSTGRES_FUNCTION = """
CREATE FUNCTION ledger_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = '23000'; END $$
"""
BOTH_SCOPES = """
SELECT 'owner:' || owner AS scope, budget_date, {columns} FROM {table} WHERE {condition}
UNION ALL SELECT 'project', budget_date, {columns} FROM {table} WHERE {condition}
"""


def upgrade() -> None:
    """Create triggers and views."""
    dialect = op.get_bind().dialect.name
    _append_only(dialect)
    for name, query in _views(dialect).items():
        op.execute(_literal(f"CREATE VIEW {name} AS {query}"))
    checks = " UNION ALL ".join(
        f"SELECT '{name}' AS invariant, subject FROM ({query}) AS check_{name.lower()}"
        for name, query in _checks().items()
    )
    op.execute(_literal(f"CREATE VIEW v_ledger_check AS {checks}"))


def _literal(statement: str) -> str:
    """Keep a colon that is text from being taken for a parameter."""
    return statement.replace(":", r"\:")


def _append_only(dialect: str) -> None:
    script, separator = SQLITE_TRIGGERS, "END;"
    if dialect == "postgresql":
        op.execute(POSTGRES_FUNCTION)
        script, separator = POSTGRES_TRIGGERS, "--"
    for table in ("journal", "budget_decision"):
        for statement in script.format(table=table).split(separator):
            op.execute(statement + ("END" if statement.rstrip().endswith(";") else ""))


def _views(dialect: str) -> dict[str, str]:
    usd, instant, now = USD[dialect].format, INSTANT[dialect].format, NOW_US[dialect]
    assumed = """coalesce((SELECT sum(a.cost_micros) FROM attempt a WHERE a.state = 'assumed'
        AND 'owner:' || a.owner = d.scope AND a.budget_date = d.budget_date), 0)"""
    left = "d.limit_micros - d.held_micros - d.settled_micros"
    headroom = f"CASE WHEN {left} > 0 THEN {left} ELSE 0 END"
    return {
        "v_spend_daily": f"""
            SELECT substr(d.scope, 7) AS owner, d.budget_date,
                {usd("d.limit_micros")} AS limit_usd, {usd("d.held_micros")} AS held_usd,
                {usd("d.settled_micros")} AS settled_usd, {usd(assumed)} AS assumed_usd,
                {usd("d.overrun_micros")} AS overrun_usd, {usd(f"({headroom})")} AS headroom_usd,
                (d.ends_at_us <= {now} AND d.held_micros = 0 AND NOT EXISTS (
                    SELECT 1 FROM hold h WHERE h.state = 'open'
                    AND h.scope = d.scope AND h.budget_date = d.budget_date)
                AND {assumed} = 0) AS is_final
            FROM budget_day d WHERE d.scope LIKE 'owner:%'""",
        "v_spend_item": f"""
            SELECT owner, batch_id, scene_id, variant, provider, model,
                sum(CASE WHEN cost_basis = 'reused' THEN 0 ELSE 1 END) AS attempts,
                {usd("coalesce(sum(cost_micros), 0)")} AS cost_usd,
                CASE max(CASE WHEN state = 'assumed' THEN 4 WHEN cost_basis = 'usage' THEN 3
                    WHEN cost_basis = 'flat' THEN 2 WHEN cost_basis = 'reused' THEN 1 ELSE 0 END)
                    WHEN 4 THEN 'assumed' WHEN 3 THEN 'usage' WHEN 2 THEN 'flat'
                    WHEN 1 THEN 'reused' ELSE 'none' END AS cost_basis,
                max(spend_date) AS spend_date, budget_date
            FROM attempt
            GROUP BY owner, batch_id, scene_id, variant, provider, model, budget_date""",
        "v_hold_open": f"""
            SELECT hold_id, batch_id, owner, budget_date, run_id, fence,
                {usd("amount_micros")} AS amount_usd, {usd("inflight_micros")} AS inflight_usd,
                {usd("drawn_micros")} AS drawn_usd, {usd("released_micros")} AS released_usd,
                {instant("created_us")} AS created_at
            FROM hold WHERE state = 'open'""",
        "v_decision": f"""
            SELECT decision_id, {instant("decided_us")} AS decided_at, outcome, scope, owner,
                budget_date, batch_id, run_id, attempt_id, actor,
                {usd("estimate_micros")} AS estimate_usd,
                {usd("headroom_micros")} AS headroom_usd, {usd("limit_micros")} AS limit_usd
            FROM budget_decision""",
    }


def _against_sum(figure: str, table: str, column: str, condition: str) -> str:
    rows = BOTH_SCOPES.format(table=table, columns=f"{column} AS part", condition=condition)
    return f"""
        SELECT d.scope || ' ' || d.budget_date AS subject FROM budget_day d
        LEFT JOIN (SELECT scope, budget_date, sum(part) AS whole FROM ({rows}) AS parts
            GROUP BY scope, budget_date) AS s
            ON s.scope = d.scope AND s.budget_date = d.budget_date
        WHERE d.{figure} <> coalesce(s.whole, 0)"""


def _checks() -> dict[str, str]:
    billed = "state IN ('captured', 'assumed')"
    return {
        "I1": """SELECT scope || ' ' || budget_date AS subject FROM budget_day
            WHERE held_micros + settled_micros > limit_micros + overrun_micros
            OR held_micros < 0 OR settled_micros < 0 OR overrun_micros < 0 OR limit_micros < 0""",
        "I2": _against_sum(
            "held_micros", "hold", "amount_micros - drawn_micros - released_micros", "1 = 1"
        ),
        "I3": _against_sum("settled_micros", "attempt", "cost_micros", billed),
        "I4": _against_journal(),
        "I5": """SELECT d.scope || ' ' || d.budget_date AS subject FROM budget_day d
            LEFT JOIN (SELECT scope, budget_date, count(*) AS entries, max(day_version) AS newest
                FROM journal GROUP BY scope, budget_date) AS j
                ON j.scope = d.scope AND j.budget_date = d.budget_date
            WHERE d.version <> coalesce(j.entries, 0) OR d.version <> coalesce(j.newest, 0)""",
        "I6": """SELECT 'hold ' || h.hold_id AS subject FROM hold h
            LEFT JOIN (SELECT hold_id, sum(covered_micros) AS drawn,
                sum(CASE WHEN state = 'intent' THEN ceiling_micros ELSE 0 END) AS inflight
                FROM attempt GROUP BY hold_id) AS a ON a.hold_id = h.hold_id
            WHERE h.inflight_micros <> coalesce(a.inflight, 0)
            OR h.drawn_micros <> coalesce(a.drawn, 0)""",
        "I7": f"""SELECT 'journal ' || idempotency_key AS subject FROM (
            SELECT idempotency_key, held_after, settled_after,
                sum({_change("held")}) OVER chain AS held,
                sum({_change("settled")}) OVER chain AS settled
            FROM journal
            WINDOW chain AS (PARTITION BY scope, budget_date ORDER BY day_version)) AS chained
            WHERE held_after <> held OR settled_after <> settled""",
        "I9": _against_sum(
            "overrun_micros", "attempt", "coalesce(cost_micros, 0) - covered_micros", billed
        )
        + " UNION ALL "
        + _against_sum(
            "overrun_micros", "budget_decision", "estimate_micros", "outcome = 'overrun'"
        ),
    }


def _change(bucket: str) -> str:
    return f"""CASE WHEN to_bucket = '{bucket}' THEN amount_micros
        WHEN from_bucket = '{bucket}' THEN -amount_micros ELSE 0 END"""


def _against_journal() -> str:
    return f"""
        SELECT d.scope || ' ' || d.budget_date AS subject FROM budget_day d
        LEFT JOIN (SELECT scope, budget_date, sum({_change("held")}) AS held,
                sum({_change("settled")}) AS settled, -sum({_change("overrun")}) AS overrun
            FROM journal GROUP BY scope, budget_date) AS j
            ON j.scope = d.scope AND j.budget_date = d.budget_date
        WHERE d.held_micros <> coalesce(j.held, 0) OR d.settled_micros <> coalesce(j.settled, 0)
        OR d.overrun_micros <> coalesce(j.overrun, 0)"""
