"""What operators do with a ledger after trouble: look at unknowns, reconcile, back up."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, select

from assetgen_pipeline.adapters.sql_ledger_attempts import record
from assetgen_pipeline.adapters.sql_ledger_backup import back_up, restore
from assetgen_pipeline.adapters.sql_ledger_bookings import Resolution, resolve
from assetgen_pipeline.adapters.sql_ledger_days import DayBook
from assetgen_pipeline.adapters.sql_ledger_engine import LedgerDatabase, database_now
from assetgen_pipeline.adapters.sql_ledger_figures import figures
from assetgen_pipeline.adapters.sql_ledger_schema import attempt
from assetgen_pipeline.adapters.sql_ledger_slice import batch_slice
from assetgen_pipeline.domain.budget import AttemptRecord, AttemptState
from assetgen_pipeline.domain.errors import LedgerError
from assetgen_pipeline.domain.metrics import LedgerFigures
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.ports.clock import Clock

T = TypeVar("T")


class LedgerRecovery:
    """Opening, closing and mending, apart from the day's work."""

    def __init__(
        self,
        url: str,
        *,
        clock: Clock | None,
        time_zone: ZoneInfo,
        default_limit: Money,
        project_limit: Money | None = None,
        lock_path: Path | None = None,
    ) -> None:
        """Open nothing yet; `lock_path` defaults to the SQLite file's name with `.lock`."""
        self._clock = clock
        self._database = LedgerDatabase(url, lock_path, tells_time=clock is None)
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
        """Copy the ledger into a new file, consistently, while it is in use.

        Raises:
            LedgerError: `path` exists already.
        """
        back_up(self._database, path)

    def restore(self, path: Path) -> Path | None:
        """Replace the ledger's content by a backup's; where the content before it was kept.

        Raises:
            LedgerUnavailable: the backup cannot be read; the ledger is as it was.
        """
        return restore(self._database, path, now=self.now())

    def now(self) -> datetime:
        """The instant that the ledger goes by."""
        if self._clock is not None:
            return self._clock.now()
        return self._database.read(database_now)

    def figures(self) -> LedgerFigures:
        """Sums over all attempts, for metrics."""
        return self._database.read(figures)

    def batch_slice(self, batch_id: str) -> dict[str, list[dict[str, Any]]]:
        """Every row of one batch, by table, for a support bundle."""
        return self._database.read(lambda connection: batch_slice(connection, batch_id))

    def _read(self, work: Callable[[Connection, datetime], T]) -> T:
        return self._database.read(lambda connection: work(connection, self._now(connection)))

    def _write(self, work: Callable[[Connection, datetime], T]) -> T:
        return self._database.write(lambda connection: work(connection, self._now(connection)))

    def _now(self, connection: Connection) -> datetime:
        """The instant: of the clock given, else of the database, one for all hosts."""
        if self._clock is not None:
            return self._clock.now()
        return database_now(connection)
