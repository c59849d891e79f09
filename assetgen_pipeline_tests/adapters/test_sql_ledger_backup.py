"""Backups: what was booked comes back, and nothing that exists is lost on the way."""

import contextlib
import sqlite3

import pytest

from assetgen_pipeline.adapters import sql_ledger_backup
from assetgen_pipeline.domain.errors import LedgerError, LedgerUnavailable
from assetgen_pipeline_tests.ledger_helpers import (
    broken,
    capture,
    figures,
    open_real,
    request,
    reserve,
)
from assetgen_pipeline_tests.postgres_cluster import require_cluster


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    return require_cluster().create_ledger()


@pytest.fixture
def ledger(url):
    opened = open_real(url, 1000)
    yield opened
    opened.close()


def spend(ledger, item="i1", cost=60):
    capture(ledger, ledger.intent(ledger.open_hold("b1") or reserve(ledger), request(item)), cost)


def test_a_backup_brings_everything_back_as_it_was(ledger, url, tmp_path):
    spend(ledger)
    backup = tmp_path / "backup"
    ledger.backup(backup)
    before = ledger.attempts("b1")
    spend(ledger, "i2", 70)
    ledger.settle("b1")

    ledger.restore(backup)

    assert ledger.attempts("b1") == before
    assert figures(ledger) == (240, 60, 0)
    assert [hold.batch_id for hold in ledger.open_holds()] == ["b1"]
    assert broken(ledger) == []
    spend(ledger, "i3", 10)
    assert ledger.settle("b1").micros == 230
    with contextlib.closing(open_real(url, 1000)) as other:
        assert figures(other) == (0, 70, 0)


def test_a_process_that_has_the_ledger_open_goes_on_with_what_was_restored(ledger, url, tmp_path):
    spend(ledger)
    backup = tmp_path / "backup"
    ledger.backup(backup)
    with contextlib.closing(open_real(url, 1000)) as other:
        spend(other, "i2", 70)

        ledger.restore(backup)

        spend(other, "i3", 30)
        assert figures(other) == figures(ledger) == (210, 90, 0)
        assert broken(other) == []


def test_a_backup_never_overwrites_a_file(ledger, tmp_path):
    backup = tmp_path / "backup"
    backup.write_bytes(b"precious")
    with pytest.raises(LedgerError, match="exists"):
        ledger.backup(backup)
    assert backup.read_bytes() == b"precious"


@pytest.mark.parametrize("content", [None, b"", b"no database at all" * 99])
def test_something_else_is_not_restored(ledger, tmp_path, content):
    reserve(ledger)
    wrong = tmp_path / "wrong"
    if content is not None:
        wrong.write_bytes(content)
    with pytest.raises(LedgerUnavailable):
        ledger.restore(wrong)
    assert figures(ledger) == (300, 0, 0)
    assert broken(ledger) == []


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_what_a_restore_replaces_is_kept_beside_it(ledger, path, tmp_path):
    ledger.backup(tmp_path / "backup")
    spend(ledger)

    kept = ledger.restore(tmp_path / "backup")

    assert kept.parent == path.parent
    with contextlib.closing(sqlite3.connect(kept)) as former:
        assert former.execute("SELECT count(*) FROM attempt").fetchone() == (1,)
    assert ledger.attempts("b1") == []


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("damage", [b"\0" * 8192, b"", None])
def test_a_ledger_that_is_damaged_or_gone_can_be_restored(ledger, path, tmp_path, damage):
    spend(ledger)
    ledger.backup(tmp_path / "backup")
    ledger.close()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    if damage is not None:
        path.write_bytes(damage)

    ledger.restore(tmp_path / "backup")

    assert figures(ledger) == (240, 60, 0)
    assert broken(ledger) == []


@pytest.mark.postgres
@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_without_the_tools_of_postgres_the_fix_is_named(ledger, tmp_path, monkeypatch):
    monkeypatch.setattr(sql_ledger_backup, "_TOOLS", tmp_path)
    monkeypatch.setattr(sql_ledger_backup.shutil, "which", lambda _: None)
    with pytest.raises(LedgerUnavailable, match="postgresql-client"):
        ledger.backup(tmp_path / "backup")
