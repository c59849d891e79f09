"""The ledger in SQL: every method is one transaction. The words are those of `ports.Ledger`."""

import contextlib
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from assetgen_pipeline.adapters import sql_ledger_admission as admission
from assetgen_pipeline.adapters import sql_ledger_attempts as attempt_rows
from assetgen_pipeline.adapters import sql_ledger_holds as hold_rows
from assetgen_pipeline.adapters import sql_ledger_lanes as lanes
from assetgen_pipeline.adapters import sql_ledger_limits as limits
from assetgen_pipeline.adapters import sql_ledger_spend as spend
from assetgen_pipeline.adapters.sql_ledger_at_once import NotAtOnce, reserve_at_once
from assetgen_pipeline.adapters.sql_ledger_bookings import Resolution, resolve
from assetgen_pipeline.adapters.sql_ledger_checks import run_checks
from assetgen_pipeline.adapters.sql_ledger_engine import note_affected_sqlite
from assetgen_pipeline.adapters.sql_ledger_migrations import (
    require_schema,
    schema_state,
    upgrade_schema,
)
from assetgen_pipeline.adapters.sql_ledger_openings import Wanted
from assetgen_pipeline.adapters.sql_ledger_recovery import LedgerRecovery
from assetgen_pipeline.domain.budget import (
    AttemptRecord,
    AttemptRequest,
    AttemptState,
    AttemptToken,
    BookedImage,
    BudgetDay,
    Hold,
    InvariantCheck,
    OwnedImage,
    StoredImage,
)
from assetgen_pipeline.domain.day_spend import DaySpend
from assetgen_pipeline.domain.errors import BudgetRefused, LedgerError, LedgerUnavailable
from assetgen_pipeline.domain.lanes import LaneFigures
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.ports.clock import Clock
from assetgen_pipeline.ports.ledger import Ledger

__all__ = ["SqlLedger", "open_sql_ledger", "require_schema", "schema_state", "upgrade_schema"]


class SqlLedger(LedgerRecovery, Ledger):
    """A ledger in a SQLite file or a PostgreSQL database; for many threads and processes."""

    def reserve(
        self,
        *,
        owner: str,
        batch_id: str,
        run_id: str,
        amount: Money,
        price_version: str,
        worker: str = "",
    ) -> Hold:
        """Hold `amount` on today's budget, or adopt the batch's open hold.

        Raises:
            BudgetRefused: the day's limit does not cover it; an open hold stays as it was.
            IdempotencyConflict: the batch's open hold is another owner's.
        """
        wanted = Wanted(
            owner=owner,
            batch_id=batch_id,
            run_id=run_id,
            amount=amount,
            price_version=price_version,
            worker=worker,
        )
        try:
            with contextlib.suppress(NotAtOnce):
                return self._write(lambda c, now: reserve_at_once(c, self._book, wanted, now=now))
            return self._write(lambda c, now: admission.reserve(c, self._book, wanted, now=now))
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
        return self._database.read(lambda c: hold_rows.open_hold(c, batch_id))

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
        return self._write(lambda c, now: admission.settle(c, batch_id, now=now))

    def expire(self, hold: Hold) -> Money | None:
        """End a dead run's hold; `None` where it has ended or its fence has moved on."""
        return self.expire_all([hold])[0]

    def expire_all(self, holds: Sequence[Hold]) -> list[Money | None]:
        """`expire` for each of these, many of an owner's day in one transaction.

        Raises:
            LedgerError: what one of them says does not add up; the others are ended.
        """
        released: dict[tuple[str, int], Money] = {}
        broken: list[LedgerError] = []
        waiting = list(admission.of_one_day(holds))
        while waiting:
            some = waiting.pop()
            try:
                released |= self._expire(some)
            except LedgerUnavailable:
                raise
            except LedgerError as error:
                # Books of one hold do not add up; those of the others may.
                if len(some) == 1:
                    broken.append(error)
                else:
                    waiting += [[one] for one in some]
        if broken:
            raise broken[0]
        return [released.pop((hold.hold_id, hold.fence), None) for hold in holds]

    def attempts(self, batch_id: str, *, since: datetime | None = None) -> list[AttemptRecord]:
        """All attempts of a batch, oldest first; those that changed at or after `since`."""
        return self._database.read(
            lambda connection: attempt_rows.of_batch(connection, batch_id, since=since)
        )

    def stored_images(self, owner: str, image_ids: Sequence[str]) -> dict[str, OwnedImage]:
        """Images that this owner already paid for, the newest of each content address."""
        return self._database.read(
            lambda connection: attempt_rows.images(connection, owner, image_ids)
        )

    def booked_images(self, *, batch_id: str | None = None) -> list[BookedImage]:
        """Captured attempts that have an image, of one batch or of all."""
        return self._database.read(lambda c: attempt_rows.booked_images(c, batch_id))

    def attempt_states(self, attempt_ids: Sequence[str]) -> dict[str, AttemptState]:
        """Where each of these attempts stands; unknown ones are left out."""
        return self._database.read(lambda connection: attempt_rows.states(connection, attempt_ids))

    def image_users(self, owner: str, image_ids: Sequence[str]) -> dict[str, set[str]]:
        """The owner's batches that were served each stored image, by content address."""
        return self._database.read(
            lambda connection: attempt_rows.users_of_images(connection, owner, image_ids)
        )

    def day(self, owner: str) -> BudgetDay:
        """The owner's budget today, also where nothing was reserved yet."""
        return self._read(lambda c, now: limits.day(c, self._book, owner, now=now))

    def days(self) -> list[BudgetDay]:
        """Today's budget of every owner that used it today or has a limit of its own."""
        return self._read(lambda c, now: limits.days_in_use(c, self._book, now=now))

    def project_day(self) -> BudgetDay | None:
        """The deployment's budget today; `None` where it has no limit."""
        return self._read(lambda c, now: limits.project_day(c, self._book, now=now))

    def set_limit(self, owner: str, limit: Money, *, set_by: str) -> BudgetDay:
        """Change an owner's daily limit; today never below what it holds or spent."""
        return self._write(
            lambda connection, now: limits.set_limit(
                connection, self._book, owner, limit, set_by=set_by, now=now
            )
        )

    def open_holds(self) -> list[Hold]:
        """All open holds, oldest first."""
        return self._database.read(hold_rows.all_open)

    def budget_date(self, at: datetime) -> date:
        """The budget day of an instant."""
        return self._database.read(lambda connection: self._book.today(connection, at))

    def day_spend(self, day: date) -> DaySpend:
        """One budget day in sums, owners in name order."""
        return self._read(lambda c, now: spend.day_spend(c, self._book, day, now=now))

    def day_entries(self, since: date) -> dict[date, int]:
        """How many entries each budget day has, from `since` on."""
        return self._database.read(lambda connection: spend.day_entries(connection, since))

    def lane_figures(self, since: datetime) -> list[LaneFigures]:
        """Images first asked for at or after `since` that are at an end, by lane and model."""
        return self._database.read(lambda connection: lanes.lane_figures(connection, since))

    def verify(self) -> list[InvariantCheck]:
        """Check every invariant of the books and report each."""
        return self._database.read(run_checks)

    def _expire(self, holds: Sequence[Hold]) -> dict[tuple[str, int], Money]:
        return self._write(lambda c, now: admission.expire(c, holds, now=now))

    def _resolve(self, attempt_id: str, resolution: Resolution) -> None:
        self._write(
            lambda connection, now: resolve(connection, self._book, attempt_id, resolution, now=now)
        )


def open_sql_ledger(
    url: str,
    *,
    clock: Clock | None,
    time_zone: ZoneInfo,
    default_limit: Money,
    project_limit: Money | None = None,
    lock_path: Path | None = None,
) -> SqlLedger:
    """Open a ledger whose schema fits; an absent SQLite ledger is created.

    Without a clock PostgreSQL's own is used, so that hosts whose clocks differ agree on the day.

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
