"""The tests' own test: each seeded bug is stopped by a rule of the tables or found by `verify`."""

import contextlib
import sqlite3

import pytest

from assetgen_pipeline.adapters import (
    sql_ledger_admission,
    sql_ledger_at_once,
    sql_ledger_attempts,
    sql_ledger_bookings,
    sql_ledger_journal,
)
from assetgen_pipeline.adapters.sql_ledger_steps import Statement
from assetgen_pipeline.domain.errors import BudgetRefused, LedgerError, LedgerUnavailable
from assetgen_pipeline_tests.ledger_helpers import (
    broken,
    capture,
    figures,
    open_real,
    request,
    reserve,
)

CORRUPTIONS = {
    "I1": "UPDATE budget_day SET limit_micros = 0",
    "I2": "UPDATE budget_day SET held_micros = held_micros + 1",
    "I3": "UPDATE attempt SET cost_micros = cost_micros + 1 WHERE state = 'captured'",
    "I4": "UPDATE journal SET amount_micros = amount_micros + 1 WHERE kind = 'draw'",
    "I5": "DELETE FROM journal WHERE kind = 'draw'",
    "I6": "UPDATE hold SET inflight_micros = inflight_micros + 1",
    "I7": "UPDATE journal SET held_after = held_after + 1 WHERE kind = 'reserve'",
    "I9": "UPDATE budget_day SET overrun_micros = 7",
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path):
    opened = open_real(f"sqlite:///{path}", 1000)
    yield opened
    opened.close()


def test_sound_books_break_no_invariant(ledger):
    hold = reserve(ledger)
    capture(ledger, ledger.intent(hold, request()), 60)
    ledger.intent(hold, request("i2"))
    assert [check.name for check in ledger.verify()] == list(CORRUPTIONS)
    assert all(check.sentence for check in ledger.verify())
    assert broken(ledger) == []


@pytest.mark.parametrize("invariant", CORRUPTIONS)
def test_a_change_behind_the_ledgers_back_is_found(ledger, path, invariant):
    hold = reserve(ledger)
    capture(ledger, ledger.intent(hold, request()), 60)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA ignore_check_constraints = ON")
        for table in ("journal", "budget_decision"):
            raw.execute(f"DROP TRIGGER {table}_no_update")
            raw.execute(f"DROP TRIGGER {table}_no_delete")
        raw.execute(CORRUPTIONS[invariant])
    assert invariant in {found.split()[0] for found in broken(ledger)}


def _unguarded(statement):
    without = statement._generate()
    without._where_criteria = statement._where_criteria[:2]
    return without


def test_without_the_guard_the_table_refuses(ledger, monkeypatch):
    reserve(ledger, 1)
    unguarded = Statement(_unguarded(sql_ledger_at_once._TAKE))
    steps = list(sql_ledger_at_once._STEPS)
    steps[1] = steps[1]._replace(statement=unguarded)
    monkeypatch.setattr(sql_ledger_at_once, "_STEPS", steps)
    with pytest.raises(LedgerError, match="rules"):
        reserve(ledger, 1000, batch="b2")
    assert figures(ledger) == (1, 0, 0)


def test_after_a_look_that_sees_too_much_the_guard_refuses(ledger, monkeypatch):
    monkeypatch.setattr(sql_ledger_journal, "_judge", lambda *_: None)
    with pytest.raises(LedgerError, match="gone"):
        reserve(ledger, 1001)
    assert figures(ledger) == (0, 0, 0)


def test_after_such_a_look_and_without_the_guard_the_table_refuses(ledger, monkeypatch):
    monkeypatch.setattr(sql_ledger_journal, "_judge", lambda *_: None)
    for name in ("_TAKE", "_TAKE_UNDER_NEW_LIMITS"):
        statement = getattr(sql_ledger_journal, name)
        monkeypatch.setattr(sql_ledger_journal, name, _unguarded(statement))
    with pytest.raises(LedgerError, match="rules"):
        reserve(ledger, 1001)
    assert figures(ledger) == (0, 0, 0)


def test_a_release_that_is_off_by_one_is_refused(ledger, monkeypatch):
    reserve(ledger)
    right = sql_ledger_admission.free_micros
    monkeypatch.setattr(sql_ledger_admission, "free_micros", lambda row: right(row) - 1)
    with pytest.raises(LedgerError):
        ledger.settle("b1")
    assert figures(ledger) == (300, 0, 0)


def test_a_cover_that_forgets_calls_in_flight_is_refused(ledger, monkeypatch):
    hold = reserve(ledger, 150)
    ledger.intent(hold, request())
    monkeypatch.setattr(sql_ledger_attempts, "free_micros", lambda row: row.amount_micros)
    with pytest.raises(LedgerError):
        ledger.intent(hold, request("i2"))


def test_a_second_intent_of_an_item_is_refused(ledger, monkeypatch):
    hold = reserve(ledger)
    ledger.intent(hold, request())
    so_far = sql_ledger_attempts.so_far
    monkeypatch.setattr(sql_ledger_attempts, "so_far", lambda *item: (so_far(*item)[0], False))
    with pytest.raises(LedgerError):
        ledger.intent(hold, request())


def test_an_entry_that_is_posted_twice_is_refused(ledger, monkeypatch):
    hold = reserve(ledger)
    token = ledger.intent(hold, request())
    original = sql_ledger_bookings.post

    def twice(*arguments, **options):
        original(*arguments, **options)
        return original(*arguments, **options)

    monkeypatch.setattr(sql_ledger_bookings, "post", twice)
    with pytest.raises(LedgerError):
        capture(ledger, token, 10)
    assert figures(ledger) == (300, 0, 0)


def test_an_entry_that_never_reaches_the_day_is_found(ledger, monkeypatch):
    hold = reserve(ledger)
    token = ledger.intent(hold, request())
    monkeypatch.setattr(sql_ledger_bookings, "post", lambda *_, **__: None)
    capture(ledger, token, 10)
    assert {found.split()[0] for found in broken(ledger)} == {"I2", "I3"}


def test_a_refused_reservation_leaves_nothing_but_its_decision(ledger):
    with pytest.raises(BudgetRefused):
        reserve(ledger, 1001)
    assert ledger.open_holds() == []
    tables = ("hold", "journal", "budget_decision")
    counts = [
        ledger._database.read(
            lambda c, t=table: c.exec_driver_sql(f"SELECT count(*) FROM {t}").scalar()
        )
        for table in tables
    ]
    assert counts == [0, 0, 1]


def test_a_damaged_file_makes_the_ledger_unavailable(ledger, path):
    reserve(ledger)
    ledger.close()
    path.write_bytes(b"\0" * 8192)
    for call in (lambda: ledger.day("ann"), lambda: reserve(ledger, 1, batch="b2"), ledger.verify):
        with pytest.raises(LedgerUnavailable):
            call()
