"""The ledger's schema: created, upgraded, refused, and the same as the code says."""

import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from assetgen_pipeline.adapters.sql_ledger import open_sql_ledger, schema_state, upgrade_schema
from assetgen_pipeline.adapters.sql_ledger_engine import LedgerDatabase
from assetgen_pipeline.adapters.sql_ledger_migrations import VERSION_TABLE
from assetgen_pipeline.adapters.sql_ledger_schema import metadata
from assetgen_pipeline.domain.errors import (
    BudgetRefused,
    LedgerError,
    LedgerSchemaError,
    LedgerUnavailable,
)
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline_tests.ledger_helpers import broken, open_real, request
from assetgen_pipeline_tests.postgres_cluster import require_cluster

HEAD = "0101"
VIEWS = {
    "v_spend_daily": "owner budget_date limit_usd held_usd settled_usd assumed_usd overrun_usd headroom_usd is_final",
    "v_spend_item": "owner batch_id scene_id variant provider model attempts cost_usd cost_basis spend_date budget_date",
    "v_hold_open": "hold_id batch_id owner budget_date run_id fence amount_usd inflight_usd drawn_usd released_usd created_at",
    "v_decision": "decision_id decided_at outcome scope owner budget_date batch_id run_id attempt_id actor estimate_usd headroom_usd limit_usd",
    "v_ledger_check": "invariant subject",
}


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    cluster = require_cluster()
    return cluster.url(cluster.create_database())


@pytest.fixture
def database(empty):
    upgrade_schema(empty)
    opened = LedgerDatabase(empty)
    yield opened
    opened.close()


def _execute(database, statement):
    return database.write(lambda connection: connection.execute(text(statement)))


def test_an_upgrade_creates_everything_and_can_be_repeated(empty):
    assert schema_state(empty) == (None, HEAD)
    upgrade_schema(empty)
    upgrade_schema(empty)
    assert schema_state(empty) == (HEAD, HEAD)


def test_looking_at_an_absent_file_does_not_create_it(tmp_path):
    assert schema_state(f"sqlite:///{tmp_path}/none.db") == (None, HEAD)
    assert list(tmp_path.iterdir()) == []


def test_the_revisions_and_the_tables_of_the_code_agree(database):
    def differences(connection):
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        return compare_metadata(context, metadata)

    assert database.read(differences) == []


def test_opening_creates_an_absent_file_but_nothing_in_postgres(empty):
    if empty.startswith("sqlite"):
        open_real(empty, 10).close()
        assert schema_state(empty) == (HEAD, HEAD)
    else:
        with pytest.raises(LedgerSchemaError):
            open_real(empty, 10)


def test_an_older_schema_is_refused_until_it_is_upgraded(empty):
    upgrade_schema(empty, revision="0001")
    with pytest.raises(LedgerSchemaError, match="doctor --fix"):
        open_real(empty, 10)
    upgrade_schema(empty)
    ledger = open_real(empty, 10)
    assert broken(ledger) == []
    ledger.close()


def test_another_programs_version_table_is_left_alone(empty):
    if empty.startswith("sqlite"):
        with closing(sqlite3.connect(empty.removeprefix("sqlite:///"))) as raw:
            raw.execute("CREATE TABLE alembic_version (version_num TEXT)")
    else:
        _with(empty, "CREATE TABLE alembic_version (version_num TEXT)")
    upgrade_schema(empty)
    assert _with(empty, "SELECT count(*) FROM alembic_version") == 0


def _run(connection, statement):
    result = connection.execute(text(statement))
    return result.scalar() if result.returns_rows else None


def _with(url, statement):
    database = LedgerDatabase(url)
    try:
        return database.write(lambda connection: _run(connection, statement))
    finally:
        database.close()


@pytest.mark.parametrize(
    "change",
    ["UPDATE journal SET amount_micros = 1", "DELETE FROM journal", "DELETE FROM budget_decision"],
)
def test_the_journal_is_append_only(empty, database, change):
    ledger = open_real(empty, 100)
    ledger.reserve(owner="ann", batch_id="b", run_id="r", amount=Money(5), price_version="p")
    with pytest.raises(LedgerError):
        _execute(database, change)
    assert broken(ledger) == []
    ledger.close()


def test_the_page_on_the_ledger_describes_every_view():
    page = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(v_\w+)` \| [^|]+ \| ([^|]+) \|$", page, re.MULTILINE)

    described = {view: " ".join(re.findall(r"`(\w+)`", columns)) for view, columns in rows}
    assert described == VIEWS


@pytest.mark.parametrize("view", VIEWS)
def test_the_views_have_the_columns_of_the_contract(database, view):
    result = database.read(
        lambda connection: list(connection.execute(text(f"SELECT * FROM {view}")).keys())
    )
    assert result == VIEWS[view].split()


def test_the_views_tell_what_was_spent_and_why_something_was_refused(empty):
    upgrade_schema(empty)
    # Whether a day is final, the views say by the database's clock.
    noon = datetime.now(UTC).replace(hour=12)
    ledger = open_real(empty, 1_000_000, clock=ManualClock(noon + timedelta(days=1)))
    hold = ledger.reserve(
        owner="ann", batch_id="b", run_id="r", amount=Money(600_000), price_version="p"
    )
    ledger.capture(
        ledger.intent(hold, request()), cost=Money(250_000), cost_basis="usage", image=None
    )
    ledger.assume(ledger.intent(hold, request("i2", scene_id="s2")), code="x", detail="")
    with pytest.raises(BudgetRefused):
        ledger.reserve(
            owner="ann", batch_id="b2", run_id="r", amount=Money(400_001), price_version="p"
        )

    def rows(statement):
        return ledger._database.read(lambda c: [tuple(row) for row in c.execute(text(statement))])

    [day] = rows(
        "SELECT owner, limit_usd, held_usd, settled_usd, assumed_usd, headroom_usd, is_final FROM v_spend_daily"
    )
    assert [float(one) for one in day[1:6]] == [1.0, 0.3499, 0.2501, 0.0001, 0.4]
    assert (day[0], bool(day[6])) == ("ann", False)
    items = rows(
        "SELECT scene_id, attempts, cost_basis, cost_usd FROM v_spend_item ORDER BY scene_id"
    )
    assert [(*item[:3], float(item[3])) for item in items] == [
        ("s1", 1, "usage", 0.25),
        ("s2", 1, "assumed", 0.0001),
    ]
    assert rows("SELECT outcome, batch_id FROM v_decision ORDER BY decision_id") == [
        ("allowed", "b"),
        ("refused", "b2"),
    ]
    assert rows("SELECT batch_id FROM v_hold_open") == [("b",)]
    ledger.close()


def test_sqlite_keeps_no_text_where_a_number_belongs(tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.db"
    upgrade_schema(url)
    values = "('s', '2026-01-01', 'UTC', 0, 1, 'ten')"
    with pytest.raises(LedgerError):
        _with(
            url,
            f"INSERT INTO budget_day (scope, budget_date, time_zone, starts_at_us, ends_at_us, limit_micros) VALUES {values}",
        )


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://h/d",
        "postgresql+psycopg://u@127.0.0.1:1/d",
        "postgresql+asyncpg://u@127.0.0.1:1/d",
        "sqlite:////proc/none/ledger.db",
    ],
)
def test_a_ledger_that_cannot_be_reached_says_so(url):
    with pytest.raises(LedgerUnavailable):
        open_real(url, 10)


def test_a_corrupt_file_is_unavailable_and_stays_as_it_is(tmp_path):
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(LedgerUnavailable):
        open_sql_ledger(f"sqlite:///{path}", clock=None, time_zone=None, default_limit=Money(1))
    assert path.read_bytes() == b"not a database" * 100
