"""What is SQL's own: reconciling, backups, threads, forks, settings of connections, time zones."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import psycopg
import pytest
from sqlalchemy import bindparam, event, insert
from sqlalchemy.exc import OperationalError

from assetgen_pipeline.adapters.sql_ledger import SqlLedger, open_sql_ledger
from assetgen_pipeline.adapters.sql_ledger_schema import budget_limit
from assetgen_pipeline.adapters.sql_ledger_steps import Statement, Step, all_change
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.errors import (
    BudgetRefused,
    LedgerError,
    LedgerUnavailable,
)
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline_tests.ledger_helpers import (
    IMAGE,
    broken,
    capture,
    figures,
    on_statements,
    open_real,
    request,
    reserve,
)
from assetgen_pipeline_tests.postgres_cluster import require_cluster


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture
def ledger(url):
    opened = open_real(url, 1000)
    yield opened
    assert broken(opened) == []
    opened.close()


@pytest.fixture
def postgres():
    opened = open_real(require_cluster().create_ledger(), 1000)
    yield opened
    assert broken(opened) == []
    opened.close()


FORKING = """
import os, sys
from assetgen_pipeline_tests.ledger_helpers import open_real, reserve
ledger = open_real(sys.argv[1], 1000)
reserve(ledger, 10)
child = os.fork()
if child == 0:
    try:
        reserve(ledger, 10, batch="child")
        ledger.close()
    finally:
        os._exit(0)
os.waitpid(child, 0)
reserve(ledger, 10, batch="b3")
"""


def _spend(ledger, number):
    batch = f"b{number}"
    hold = reserve(ledger, 20, batch=batch)
    for item in range(3):
        capture(ledger, ledger.intent(hold, request(f"i{item}", 5)), 4)
    ledger.day("ann")
    return ledger.settle(batch).micros


@pytest.mark.parametrize("kind", ["ledger", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_many_threads_share_one_ledger(kind, request):
    ledger = request.getfixturevalue(kind)
    with ThreadPoolExecutor(8) as pool:
        released = list(pool.map(lambda number: _spend(ledger, number), range(24)))
    assert released == [8] * 24
    assert figures(ledger) == (0, 24 * 12, 0)


@pytest.mark.parametrize("kind", ["ledger", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_forked_child_opens_connections_of_its_own(kind, request):
    ledger = request.getfixturevalue(kind)
    url = ledger._database.url.render_as_string(hide_password=False)
    # A test process has threads, and a fork of those may meet a lock that nobody opens.
    subprocess.run([sys.executable, "-c", FORKING, url], check=True)
    assert figures(ledger) == (30, 0, 0)


def test_sqlite_is_told_to_be_durable(ledger):
    names = ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
    found = ledger._database.write(
        lambda c: [c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]
    )
    assert found == ["wal", 2, 30000, 1]


def test_readers_cannot_write(ledger):
    with pytest.raises(LedgerUnavailable):
        ledger._database.read(lambda c: c.exec_driver_sql("DELETE FROM budget_limit"))


@pytest.mark.parametrize("kind", ["ledger", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_first_reservation_looks_at_nothing_and_takes_four_statements(kind, request):
    ledger = request.getfixturevalue(kind)
    reserve(ledger, 10)
    statements = []
    on_statements(
        ledger._database.engine(),
        before=lambda _connection, statement: statements.append(statement.split()[0]),
    )
    reserve(ledger, 10, batch="b2")
    assert [word for word in statements if word != "BEGIN"] == ["INSERT", "UPDATE"] + ["INSERT"] * 2


@pytest.mark.parametrize("kind", ["ledger", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_hold_whose_figures_are_wrong_keeps_no_other_hold_open(kind, request):
    ledger = request.getfixturevalue(kind)
    holds = [reserve(ledger, 10, batch=f"b{number}") for number in range(5)]

    def spoil(inflight):
        statement = f"UPDATE hold SET inflight_micros = {inflight} WHERE batch_id = 'b2'"
        ledger._database.write(lambda c: c.exec_driver_sql(statement))

    spoil(1)
    with pytest.raises(LedgerError):
        ledger.expire_all(holds)
    assert ledger.open_holds() == [holds[2]]
    spoil(0)
    assert ledger.expire_all(holds) == [None, None, Money(10), None, None]


@pytest.mark.parametrize("kind", ["ledger", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_statements_sent_together_fail_as_one_and_leave_the_connection_usable(kind, request):
    ledger = request.getfixturevalue(kind)
    values = {"b_limit": 5, "b_day": date(2026, 1, 5)}
    row = insert(budget_limit).values(owner="ann", limit_micros=bindparam("b_limit"), set_by="op")
    fine, refused = (Statement(row.values(set_us=1, limit_micros=micros)) for micros in (5, -1))
    too_many = Step(Statement(row.values(set_us=1)), 2)
    steps = [Step(fine, 1), Step(refused, 1), Step(fine, 1)]

    def run(some):
        return ledger._database.write(lambda connection: all_change(connection, some, values))

    with pytest.raises(LedgerError, match="rules"):
        run(steps)
    assert ledger.day("ann").limit == Money(1000)
    assert run(steps[::2])
    assert not run([too_many, steps[0]])
    assert ledger.day("ann").limit == Money(5)


@pytest.mark.postgres
def test_a_connection_lost_amid_statements_sent_together_is_replaced(postgres):
    lost = []

    def lose(connection, statement):
        if statement.startswith("UPDATE budget_day") and not lost:
            lost.append(statement)
            connection.connection.driver_connection.pgconn.finish()

    reserve(postgres, 10)
    on_statements(postgres._database.engine(), before=lose)
    reserve(postgres, 10, batch="b2")
    assert lost
    assert figures(postgres) == (20, 0, 0)


@pytest.mark.postgres
def test_a_server_that_ends_the_session_amid_a_reservation_is_asked_again(postgres):
    other = psycopg.connect(
        postgres._database.url.render_as_string(hide_password=False).replace("+psycopg", ""),
        autocommit=True,
    )
    ended = []

    def end_the_session(connection, statement):
        if statement.startswith("INSERT INTO budget_decision") and not ended:
            ended.append(connection.connection.driver_connection.info.backend_pid)
            other.execute("SELECT pg_terminate_backend(%s, 5000)", ended)

    reserve(postgres, 10)
    on_statements(postgres._database.engine(), before=end_the_session)
    reserve(postgres, 10, batch="b2")
    other.close()
    assert ended
    assert figures(postgres) == (20, 0, 0)


@pytest.mark.postgres
def test_an_intent_whose_commit_was_not_answered_is_made_once(postgres):
    hold = reserve(postgres)
    engine = postgres._database.engine()
    lost = []

    def lose_the_answer(dbapi_connection):
        if not lost:
            lost.append(True)
            dbapi_connection.commit()
            dbapi_connection.close()
            raise OperationalError("COMMIT", {}, Exception("gone"), connection_invalidated=True)

    event.listen(
        engine, "commit", lambda connection: lose_the_answer(connection.connection.dbapi_connection)
    )
    token = postgres.intent(hold, request())
    assert lost
    [one] = postgres.attempts("b1")
    assert (one.attempt_id, one.state) == (token.attempt_id, AttemptState.INTENT)
    capture(postgres, token, 100)


def _zoned(url, clock, zone, **settings):
    defaults = {"default_limit": Money(1000)}
    return open_sql_ledger(url, clock=clock, time_zone=ZoneInfo(zone), **(defaults | settings))


def test_a_changed_time_zone_gives_no_second_budget_today(url):
    clock = ManualClock(datetime(2026, 1, 5, 22, 30, tzinfo=UTC))
    before = _zoned(url, clock, "UTC")
    reserve(before, 1000)
    after = _zoned(url, clock, "Asia/Tokyo")
    with pytest.raises(BudgetRefused):
        reserve(after, 1, batch="b2")
    assert after.day("ann").budget_date == date(2026, 1, 5)
    clock.set(datetime(2026, 1, 6, 0, 0, tzinfo=UTC))
    assert reserve(after, 1, batch="b2").budget_date == date(2026, 1, 6)
    before.close()
    after.close()


def test_a_limit_for_the_deployment_counts_what_was_spent_before_it_was_set(url):
    clock = ManualClock()
    before = _zoned(url, clock, "UTC")
    reserve(before, 600)
    after = _zoned(url, clock, "UTC", project_limit=Money(700))
    with pytest.raises(BudgetRefused) as refused:
        reserve(after, 101, batch="b2", owner="bob")
    assert refused.value.scope == "project"
    reserve(after, 100, batch="b2", owner="bob")
    before.close()
    after.close()


def test_an_overrun_is_decided_on_the_record(ledger):
    hold = reserve(ledger, 100)
    capture(ledger, ledger.intent(hold, request()), 130, image=IMAGE)
    outcomes = ledger._database.read(
        lambda c: [
            tuple(row)
            for row in c.exec_driver_sql(
                "SELECT outcome, estimate_micros FROM budget_decision ORDER BY decision_id"
            )
        ]
    )
    assert outcomes == [("allowed", 100), ("overrun", 30)]
    assert ledger.settle("b1") == ZERO


def test_opening_by_hand_opens_nothing_until_it_is_used(url, tmp_path):
    ledger = SqlLedger(
        url,
        clock=ManualClock(),
        time_zone=ZoneInfo("UTC"),
        default_limit=Money(1),
        project_limit=None,
        lock_path=None,
    )
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(LedgerUnavailable):
        ledger.day("ann")
    ledger.close()
