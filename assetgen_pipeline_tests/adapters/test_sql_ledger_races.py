"""Many processes on one budget: never a micro too much, never a refusal too many."""

from contextlib import nullcontext

import pytest
from sqlalchemy import event

from assetgen_pipeline.adapters import (
    sql_ledger,
    sql_ledger_admission,
    sql_ledger_engine,
    sql_ledger_journal,
)
from assetgen_pipeline.adapters.sql_ledger_at_once import NotAtOnce
from assetgen_pipeline.domain.errors import LedgerUnavailable
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.ledger import InMemoryLedger
from assetgen_pipeline_tests.ledger_helpers import broken, open_real, reserve
from assetgen_pipeline_tests.ledger_race import (
    MOST,
    SIZES,
    Racers,
    create,
    equal_holds,
    expire_all,
    flat,
    line_up,
    race_cell,
    same_batches,
)
from assetgen_pipeline_tests.postgres_cluster import require_cluster

pytestmark = pytest.mark.timeout(300)
ATTEMPTS = 160


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    return require_cluster().create_ledger()


@pytest.fixture(scope="module")
def racers():
    racers = Racers()
    yield racers
    racers.close()


@pytest.fixture
def watch(url):
    """Open ledgers that are closed however the test ends."""
    opened = []

    def open_one(limit, **settings):
        opened.append(open_real(url, limit, **settings))
        return opened[-1]

    yield open_one
    for ledger in opened:
        ledger.close()


@pytest.mark.parametrize("owners", [1, 200])
@pytest.mark.parametrize("processes", SIZES)
def test_whole_cycles_never_pass_a_limit_and_the_books_agree(racers, url, processes, owners):
    open_real(url, 1).close()

    tally = race_cell(racers, url, processes=processes, owners=owners, attempts=ATTEMPTS)

    assert tally["attempts"] == ATTEMPTS // processes * processes
    assert (tally["overspent"], tally["violations"], tally["falsely_refused"]) == (0, 0, 0)
    if owners == 1:
        # The race is about something: the budget was short, and it was used.
        assert 0.2 < tally["refused"] / tally["attempts"] < 0.8


@pytest.mark.parametrize("processes", SIZES)
def test_equal_holds_fill_the_limit_exactly(racers, watch, url, processes):
    limit, amount = 1040, 20
    ledger = watch(limit)

    admitted = flat(racers.run(equal_holds, url, limit, amount, processes=processes))

    assert len(admitted) == limit // amount
    assert ledger.day("ann").held == Money(1040)
    assert broken(ledger) == []


def test_one_batch_reserved_by_all_has_one_hold_and_one_fence_each(racers, watch, url):
    ledger = watch(80)

    seen = flat(racers.run(same_batches, url, 80, processes=MOST))

    assert len(seen) == len(set(seen)) == MOST * 8
    assert len({hold_id for hold_id, _ in seen}) == len(ledger.open_holds()) == 8
    assert {hold.fence for hold in ledger.open_holds()} == {MOST}
    assert ledger.day("ann").held == Money(80)
    assert broken(ledger) == []


def test_a_hold_that_all_try_to_expire_is_released_once(racers, watch, url):
    ledger = watch(1000)
    for number in range(8):
        reserve(ledger, 10, batch=f"b{number}")

    released = flat(racers.run(expire_all, url, 1000, processes=4))

    assert released == [10] * 8
    assert ledger.open_holds() == []
    assert broken(ledger) == []


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_processes_that_create_the_file_together_share_one_ledger(racers, watch, url):
    racers.run(create, url, processes=4)
    assert len(watch(100).open_holds()) == 4


# The power of the harness: what gateways and predecessors do must be seen to overspend in it.


def _in_memory_of_each_process(_url, limit):
    # The predecessor: a guard in the memory of one process, and nothing behind it.
    ledger = InMemoryLedger(clock=ManualClock(), default_limit=Money(limit))
    ledger.close = lambda: None
    return ledger


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_the_predecessors_guard_overspends_in_this_harness(racers, url):
    admitted = flat(racers.run(equal_holds, url, 1040, 20, _in_memory_of_each_process, processes=4))
    assert len(admitted) * 20 > 1040


def _checked_before(url, limit):
    # Look first, then take without a guard, and without the table's own check.
    def take(connection, owner, day, entry, *, now, limits):
        row = sql_ledger_journal.day_row(connection, sql_ledger_journal.owner_scope(owner), day)
        # Everybody has looked before anybody takes.
        line_up(4)
        sql_ledger_journal._judge(row, entry, limits)
        sql_ledger_journal.post(connection, owner, day, [entry], now=now)

    def look_first(*_arguments, **_named):
        raise NotAtOnce

    sql_ledger_admission.take = take
    sql_ledger.reserve_at_once = look_first
    return open_real(url, limit)


@pytest.mark.postgres
@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_a_check_followed_by_a_write_overspends_in_this_harness(watch, url):
    # One hold is left when four processes have looked so often: each sees it, and all take it.
    ledger = watch(1060)
    # Whoever made the day would keep the others from looking.
    reserve(ledger, 1, batch="first")
    ledger.settle("first")
    ledger._database.write(
        lambda connection: connection.exec_driver_sql(
            "ALTER TABLE budget_day DROP CONSTRAINT never_exceed"
        )
    )
    # Processes of their own, because the bug stays in them.
    racers = Racers(4)
    try:
        admitted = flat(racers.run(equal_holds, url, 1060, 20, _checked_before, processes=4))
    finally:
        racers.close()
    assert len(admitted) > 53
    assert "I1 owner:ann" in broken(ledger)[0]


@pytest.fixture
def deferred(monkeypatch):
    """SQLite as its driver would have it: transactions that become writers when they write."""
    made = sql_ledger_engine._sqlite_engine

    def engine(url, *, writes):
        engine = made(url, writes=writes)
        event.listen(engine, "before_cursor_execute", _defer, retval=True)
        return engine

    def _defer(_connection, _cursor, statement, parameters, *_):
        return statement.replace("BEGIN IMMEDIATE", "BEGIN DEFERRED"), parameters

    monkeypatch.setattr(sql_ledger_engine, "_sqlite_engine", engine)
    monkeypatch.setattr(sql_ledger_engine._Process, "exclusive", lambda _: nullcontext())


def _reserve_while_another_commits(watch, url):
    ledger, other = watch(1000), open_real(url, 1000)
    between = []

    def commit_something(_connection, _cursor, statement, *_):
        if statement.startswith("SELECT") and not between:
            between.append(statement)
            other.set_limit("bob", Money(1), set_by="op")

    event.listen(ledger._database.engine(), "after_cursor_execute", commit_something)
    try:
        reserve(ledger)
    finally:
        other.close()
        assert between


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_deferred_transaction_fails_when_another_commits_before_it_writes(watch, url, deferred):
    with pytest.raises(LedgerUnavailable):
        _reserve_while_another_commits(watch, url)
