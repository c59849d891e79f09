"""What operators do with a ledger after trouble: look at unknowns, reconcile, back up."""

import contextlib
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, select

from assetgen_pipeline.adapters.sql_ledger_attempts import record
from assetgen_pipeline.adapters.sql_ledger_bookings import Resolution, resolve
from assetgen_pipeline.adapters.sql_ledger_days import DayBook
from assetgen_pipeline.adapters.sql_ledger_engine import LedgerDatabase, translated_errors
from assetgen_pipeline.adapters.sql_ledger_migrations import database_state
from assetgen_pipeline.adapters.sql_ledger_schema import attempt
from assetgen_pipeline.domain.budget import AttemptRecord, AttemptState
from assetgen_pipeline.domain.errors import LedgerError, LedgerUnavailable
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.ports import Clock

T = TypeVar("T")
_NOT_A_FILE = "only a SQLite ledger is a file; use pg_dump and pg_restore for PostgreSQL"


class LedgerRecovery:
    """The part of the SQL ledger that is not in the port."""

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        time_zone: ZoneInfo,
        default_limit: Money,
        project_limit: Money | None = None,
        lock_path: Path | None = None,
    ) -> None:
        """Open nothing yet; `lock_path` defaults to the SQLite file's name with `.lock`."""
        self._clock = clock
        self._database = LedgerDatabase(url, lock_path)
        self._book = DayBook(
            time_zone=time_zone, default_limit=default_limit, project_limit=project_limit
        )

    def close(self) -> None:
        """Close the connections of this process; the next call opens new ones."""
        self._database.close()

    def assumed_attempts(self) -> list[AttemptRecord]:
        """All attempts whose bill nobody knows, oldest first."""
        statement = select(attempt).where(attempt.c.state == AttemptState.ASSUMED.value)
        ordered = statement.order_by(attempt.c.intent_us, attempt.c.attempt_id)
        return [record(row) for row in self._database.read(lambda c: c.execute(ordered).all())]

    def reconcile(self, attempt_id: str, cost: Money | None) -> None:
        """Book what an assumed attempt really cost, or with `None` that it was not billed.

        Raises:
            IdempotencyConflict: the attempt is final already, and otherwise.
            LedgerError: no such attempt, or it is still in flight.
        """
        billed = Resolution(
            state=AttemptState.CAPTURED, cost=cost, cost_basis="usage", keeps_facts=True
        )
        free = Resolution(state=AttemptState.VOIDED, corrects=True, keeps_facts=True)

        def work(connection: Connection, now: datetime) -> None:
            state = connection.scalar(
                select(attempt.c.state).where(attempt.c.attempt_id == attempt_id)
            )
            if state == AttemptState.INTENT.value:
                raise LedgerError("the attempt is still in flight; settle its batch first")
            resolution = free if cost is None else billed
            resolve(connection, self._book, attempt_id, resolution, now=now)

        self._write(work)

    def backup(self, path: Path) -> None:
        """Copy a SQLite ledger into a new file, consistently, while it is in use.

        Raises:
            LedgerError: the ledger is not a file, or `path` exists already.
        """
        if not self._database.is_sqlite:
            raise LedgerError(_NOT_A_FILE)
        if path.exists():
            raise LedgerError("the backup's file exists already")
        with self._database.exclusive(), translated_errors():
            _copy(self._path(), path)

    def restore(self, path: Path) -> None:
        """Replace a SQLite ledger by a backup; stop everything else that uses it first.

        Raises:
            LedgerError: the ledger is not a file.
            LedgerUnavailable: the backup cannot be read; the ledger is as it was.
        """
        if not self._database.is_sqlite:
            raise LedgerError(_NOT_A_FILE)
        target = self._path()
        staged = target.with_name(f"{target.name}.restoring")
        with translated_errors():
            staged.unlink(missing_ok=True)
            _copy(path, staged)
            current, _head = database_state(LedgerDatabase(f"sqlite:///{staged}"))
        if current is None:
            staged.unlink()
            raise LedgerUnavailable("the backup holds no ledger")
        self.close()
        with self._database.exclusive(), translated_errors():
            for suffix in ("-wal", "-shm"):
                target.with_name(target.name + suffix).unlink(missing_ok=True)
            staged.replace(target)

    def _path(self) -> Path:
        if self._database.path is None:
            raise LedgerError(_NOT_A_FILE)
        return self._database.path

    def _write(self, work: Callable[[Connection, datetime], T]) -> T:
        return self._database.write(lambda connection: work(connection, self._clock.now()))


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise LedgerUnavailable("there is no such file")
    with (
        contextlib.closing(sqlite3.connect(source)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)
        new.execute("PRAGMA journal_mode = DELETE")
