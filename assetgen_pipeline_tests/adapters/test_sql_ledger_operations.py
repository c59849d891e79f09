"""What is SQL's own: reconciling, backups, threads, forks, settings of connections, time zones."""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from assetgen_pipeline.adapters.sql_ledger import SqlLedger, open_sql_ledger
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.errors import (
    BudgetRefused,
    IdempotencyConflict,
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


@pytest.mark.parametrize(
    ("cost", "state", "spent"), [(30, "captured", 30), (140, "captured", 140), (None, "voided", 0)]
)
def test_an_unknown_bill_is_reconciled(ledger, cost, state, spent):
    ledger.intent(reserve(ledger), request())
    ledger.settle("b1")
    [assumed] = ledger.assumed_attempts()
    actual = None if cost is None else Money(cost)
    ledger.reconcile(assumed.attempt_id, actual)
    ledger.reconcile(assumed.attempt_id, actual)
    [one] = ledger.attempts("b1")
    assert (one.state.value, one.cost, one.code) == (state, actual, "internal")
    assert figures(ledger)[1] == spent
    assert ledger.assumed_attempts() == []


def test_only_unknown_bills_are_reconciled(ledger):
    hold = reserve(ledger)
    open_one = ledger.intent(hold, request())
    known = ledger.intent(hold, request("i2"))
    capture(ledger, known, 10)
    with pytest.raises(LedgerError, match="in flight"):
        ledger.reconcile(open_one.attempt_id, None)
    with pytest.raises(IdempotencyConflict):
        ledger.reconcile(known.attempt_id, Money(11))
    with pytest.raises(LedgerError):
        ledger.reconcile("unknown", None)


def test_a_backup_can_be_restored(ledger, url, tmp_path):
    capture(ledger, ledger.intent(reserve(ledger), request()), 60)
    backup = tmp_path / "backup.db"
    ledger.backup(backup)
    with pytest.raises(LedgerError, match="exists"):
        ledger.backup(backup)
    capture(ledger, ledger.intent(ledger.open_hold("b1"), request("i2")), 70)
    ledger.restore(backup)
    assert figures(ledger) == (240, 60, 0)
    with open_other(url) as other:
        assert len(other.attempts("b1")) == 1


def open_other(url):
    class Closing:
        def __enter__(self):
            self.ledger = open_real(url, 1000)
            return self.ledger

        def __exit__(self, *_):
            self.ledger.close()

    return Closing()


@pytest.mark.parametrize("content", [None, b"", b"no database at all" * 99])
def test_something_else_is_not_restored(ledger, tmp_path, content):
    reserve(ledger)
    wrong = tmp_path / "wrong.db"
    if content is not None:
        wrong.write_bytes(content)
    with pytest.raises(LedgerUnavailable):
        ledger.restore(wrong)
    assert figures(ledger) == (300, 0, 0)


@pytest.mark.postgres
def test_postgres_is_backed_up_by_its_own_tools(postgres, tmp_path):
    for call in (postgres.backup, postgres.restore):
        with pytest.raises(LedgerError, match="pg_dump"):
            call(tmp_path / "b")


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
