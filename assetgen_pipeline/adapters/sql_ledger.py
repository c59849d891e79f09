"""The ledger in SQL: every method is one transaction. The words are those of `ports.Ledger`."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from assetgen_pipeline.adapters import sql_ledger_admission as admission
from assetgen_pipeline.adapters import sql_ledger_attempts as attempt_rows
from assetgen_pipeline.adapters import sql_ledger_holds as hold_rows
from assetgen_pipeline.adapters.sql_ledger_bookings import Resolution, resolve
from assetgen_pipeline.adapters.sql_ledger_checks import run_checks
from assetgen_pipeline.adapters.sql_ledger_engine import note_affected_sqlite
from assetgen_pipeline.adapters.sql_ledger_migrations import (
    require_schema,
    schema_state,
    upgrade_schema,
)
from assetgen_pipeline.adapters.sql_ledger_recovery import LedgerRecovery
from assetgen_pipeline.domain.budget import (
    AttemptRecord,
    AttemptRequest,
    AttemptState,
    AttemptToken,
    BudgetDay,
    Hold,
    InvariantCheck,
    StoredImage,
)
from assetgen_pipeline.domain.errors import BudgetRefused
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.ports import Clock, Ledger

__all__ = ["SqlLedger", "open_sql_ledger", "schema_state", "upgrade_schema"]


class SqlLedger(LedgerRecovery, Ledger):
    """A ledger in a SQLite file or a PostgreSQL database; for many threads and processes."""

    def reserve(
        self, *, owner: str, batch_id: str, run_id: str, amount: Money, price_version: str
    ) -> Hold:
        """Hold `amount` on today's budget, or adopt the batch's open hold.

        Raises:
            BudgetRefused: the day's limit does not cover it; an open hold stays as it was.
            IdempotencyConflict: the batch's open hold is another owner's.
        """
        wanted = admission.Wanted(
            owner=owner,
            batch_id=batch_id,
            run_id=run_id,
            amount=amount,
            price_version=price_version,
        )
        try:
            return self._write(
                lambda connection, now: admission.reserve(connection, self._book, wanted, now=now)
            )
        except BudgetRefused as refusal:
            refused = refusal
        self._write(
            lambda connection, now: admission.note_refusal(
                connection, self._book, wanted, refused, now=now
            )
        )
        raise refused

    def open_hold(self, batch_id: str) -> Hold | None:
        """The batch's open hold, if any."""
        row = self._database.read(lambda c: c.execute(hold_rows.open_of_batch(batch_id)).first())
        return None if row is None else hold_rows.hold_value(row)

    def intent(self, hold: Hold, request: AttemptRequest) -> AttemptToken:
        """Commit the intent to make one paid attempt.

        Raises:
            BudgetRefused: the hold has too little left, and so has its day.
            HoldNotOpen: closed, or taken over by another run.
            IdempotencyConflict: the item has an attempt in flight.
        """
        tried: list[AttemptToken] = []

        def work(connection: Connection, now: datetime) -> AttemptToken:
            row = hold_rows.usable_hold(connection, hold)
            # The try before this one may have been committed although its answer was lost.
            if tried and attempt_rows.is_in_flight(connection, tried[-1].attempt_id):
                return tried[-1]
            tried.append(attempt_rows.open_attempt(connection, self._book, row, request, now=now))
            return tried[-1]

        return self._write(work)

    def capture(
        self,
        attempt: AttemptToken | AttemptRecord,
        *,
        cost: Money,
        cost_basis: str,
        image: StoredImage | None,
        code: str = "",
        detail: str = "",
        latency_ms: int = 0,
        request_id: str = "",
    ) -> None:
        """Book the actual cost; what was assumed is corrected.

        Raises:
            IdempotencyConflict: the attempt was already resolved otherwise.
        """
        resolution = Resolution(
            state=AttemptState.CAPTURED,
            cost=cost,
            cost_basis=cost_basis,
            image=image,
            code=code,
            detail=detail,
            latency_ms=latency_ms,
            request_id=request_id,
        )
        self._resolve(attempt.attempt_id, resolution)

    def void(self, token: AttemptToken, *, code: str, detail: str, latency_ms: int = 0) -> None:
        """Book that the attempt was proven not to be billed.

        Raises:
            IdempotencyConflict: the attempt was already resolved otherwise.
        """
        resolution = Resolution(
            state=AttemptState.VOIDED, code=code, detail=detail, latency_ms=latency_ms
        )
        self._resolve(token.attempt_id, resolution)

    def assume(self, token: AttemptToken, *, code: str, detail: str, latency_ms: int = 0) -> None:
        """Book the ceiling, because nobody can know whether the attempt is billed.

        Raises:
            IdempotencyConflict: the attempt was already resolved otherwise.
        """
        resolution = Resolution(
            state=AttemptState.ASSUMED,
            cost_basis="assumed",
            code=code,
            detail=detail,
            latency_ms=latency_ms,
        )
        self._resolve(token.attempt_id, resolution)

    def reuse(self, hold: Hold, request: AttemptRequest, image: StoredImage) -> None:
        """Record that an item is served from a stored image, at no cost.

        Raises:
            HoldNotOpen: closed, or taken over by another run.
        """

        def work(connection: Connection, now: datetime) -> None:
            row = hold_rows.usable_hold(connection, hold)
            attempt_rows.insert_reused(connection, self._book, row, request, image, now=now)

        self._write(work)

    def settle(self, batch_id: str) -> Money:
        """End the batch's open hold and return what was released."""
        return self._write(
            lambda connection, now: admission.settle(connection, self._book, batch_id, now=now)
        )

    def attempts(self, batch_id: str) -> list[AttemptRecord]:
        """All attempts of a batch, oldest first."""
        return self._database.read(lambda connection: attempt_rows.of_batch(connection, batch_id))

    def stored_images(self, owner: str, image_ids: Sequence[str]) -> dict[str, StoredImage]:
        """Images that this owner already paid for, by content address."""
        return self._database.read(
            lambda connection: attempt_rows.images(connection, owner, image_ids)
        )

    def day(self, owner: str) -> BudgetDay:
        """The owner's budget today, also where nothing was reserved yet."""
        return self._database.read(
            lambda connection: admission.day(connection, self._book, owner, now=self._clock.now())
        )

    def set_limit(self, owner: str, limit: Money, *, set_by: str) -> BudgetDay:
        """Change an owner's daily limit; today never below what it holds or spent."""
        return self._write(
            lambda connection, now: admission.set_limit(
                connection, self._book, owner, limit, set_by=set_by, now=now
            )
        )

    def open_holds(self) -> list[Hold]:
        """All open holds, oldest first."""
        return self._database.read(hold_rows.all_open)

    def verify(self) -> list[InvariantCheck]:
        """Check every invariant of the books and report each."""
        return self._database.read(run_checks)

    def _resolve(self, attempt_id: str, resolution: Resolution) -> None:
        self._write(
            lambda connection, now: resolve(connection, self._book, attempt_id, resolution, now=now)
        )


def open_sql_ledger(
    url: str,
    *,
    clock: Clock,
    time_zone: ZoneInfo,
    default_limit: Money,
    project_limit: Money | None = None,
    lock_path: Path | None = None,
) -> SqlLedger:
    """Open a ledger whose schema fits; an absent SQLite ledger is created.

    Raises:
        LedgerSchemaError: the schema is older, newer, or absent from PostgreSQL.
        LedgerUnavailable: the database cannot be reached or read.
    """
    require_schema(url, lock_path=lock_path)
    note_affected_sqlite(url)
    return SqlLedger(
        url,
        clock=clock,
        time_zone=time_zone,
        default_limit=default_limit,
        project_limit=project_limit,
        lock_path=lock_path,
    )
