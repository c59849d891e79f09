"""The record of budgets."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import date, datetime

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
from assetgen_pipeline.domain.lanes import LaneFigures
from assetgen_pipeline.domain.money import Money


class Ledger(ABC):
    """The record of budgets. Every call is one transaction; all calls block.

    At every commit, for every owner and budget day, `held + settled <= limit`.
    Every call can raise `LedgerUnavailable`, and then nothing was changed.
    """

    @abstractmethod
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

        An open hold is taken over (its fence rises) and extended to cover `amount`.
        `worker` names the process of the run, so that recovery can tell when it is gone.

        Raises:
            BudgetRefused: the day's limit (the owner's or the deployment's) does not cover it.
        """

    @abstractmethod
    def open_hold(self, batch_id: str) -> Hold | None:
        """The batch's open hold, if any."""

    @abstractmethod
    def intent(self, hold: Hold, request: AttemptRequest) -> AttemptToken:
        """Commit the intent to make one paid attempt; only then may bytes leave.

        Extends the hold under the day's limit where it has no cover left, and always for a
        `further` attempt, because what is left is meant for the others' first.

        Raises:
            BudgetRefused: an extension was needed and the day's limit does not cover it.
            HoldNotOpen: closed, expired, or taken over by another run.
            ContentTaken: the request says `once`, and another attempt at the image is in
                flight, or more than `gone` attempts were booked with it.
            IdempotencyConflict: the item has an attempt in flight.
        """

    @abstractmethod
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
        """Book the actual cost; accepted even when the hold has ended meanwhile.

        The same cost again changes nothing. An attempt that was assumed is corrected.

        Raises:
            IdempotencyConflict: the attempt was already resolved otherwise.
        """

    @abstractmethod
    def void(self, token: AttemptToken, *, code: str, detail: str, latency_ms: int = 0) -> None:
        """Book that the attempt was proven not to be billed.

        Raises:
            IdempotencyConflict: the attempt was already resolved otherwise.
        """

    @abstractmethod
    def assume(self, token: AttemptToken, *, code: str, detail: str, latency_ms: int = 0) -> None:
        """Book the ceiling, because nobody can know whether the attempt is billed.

        Raises:
            IdempotencyConflict: the attempt was already resolved otherwise.
        """

    @abstractmethod
    def reuse(self, hold: Hold, request: AttemptRequest, image: StoredImage) -> None:
        """Record that an item is served from a stored image, at no cost.

        Raises:
            HoldNotOpen: closed, expired, or taken over by another run.
        """

    @abstractmethod
    def settle(self, batch_id: str) -> Money:
        """End the batch's open hold and return what was released.

        Attempts still in flight become assumed at their ceiling first. Settling a batch
        without an open hold releases nothing.
        """

    @abstractmethod
    def expire(self, hold: Hold) -> Money | None:
        """End an open hold whose run is dead and return what was released.

        As `settle`, but `None` and nothing changed where the hold has ended or was taken
        over since `hold` was read: its fence has moved on.
        """

    @abstractmethod
    def expire_all(self, holds: Sequence[Hold]) -> list[Money | None]:
        """`expire` for each of these holds, in fewer transactions; in their order."""

    @abstractmethod
    def attempts(self, batch_id: str, *, since: datetime | None = None) -> list[AttemptRecord]:
        """All attempts of a batch, oldest first; those that changed at or after `since`."""

    @abstractmethod
    def stored_images(self, owner: str, image_ids: Sequence[str]) -> dict[str, OwnedImage]:
        """Images that this owner already paid for, the newest of each content address."""

    @abstractmethod
    def booked_images(self, *, batch_id: str | None = None) -> list[BookedImage]:
        """Captured attempts that have an image, of one batch or of all."""

    @abstractmethod
    def attempt_states(self, attempt_ids: Sequence[str]) -> dict[str, AttemptState]:
        """Where each of these attempts stands; unknown ones are left out."""

    @abstractmethod
    def assumed_attempts(self) -> list[AttemptRecord]:
        """All attempts whose bill nobody knows, oldest first."""

    @abstractmethod
    def reconcile(self, attempt_id: str, cost: Money | None) -> None:
        """Book what an assumed attempt really cost, or with `None` that it was not billed.

        Raises:
            IdempotencyConflict: the attempt is final already, and otherwise.
            LedgerError: no such attempt, or it is still in flight.
        """

    @abstractmethod
    def image_users(self, owner: str, image_ids: Sequence[str]) -> dict[str, set[str]]:
        """The owner's batches that were served each stored image, by content address."""

    @abstractmethod
    def day(self, owner: str) -> BudgetDay:
        """The owner's budget today, also where nothing was reserved yet.

        The limit is the one that the next reservation meets.
        """

    @abstractmethod
    def days(self) -> list[BudgetDay]:
        """Today's budget of every owner that used it today or has a limit of its own."""

    @abstractmethod
    def project_day(self) -> BudgetDay | None:
        """The deployment's budget today (its `owner` is empty); `None` without a limit."""

    @abstractmethod
    def set_limit(self, owner: str, limit: Money, *, set_by: str) -> BudgetDay:
        """Change an owner's daily limit.

        Raising it counts at once; lowering it never below what today already holds or spent.
        """

    @abstractmethod
    def open_holds(self) -> list[Hold]:
        """All open holds, oldest first."""

    @abstractmethod
    def budget_date(self, at: datetime) -> date:
        """The budget day of an instant."""

    @abstractmethod
    def day_spend(self, day: date) -> DaySpend:
        """One budget day in sums, owners in name order; all of one reading."""

    @abstractmethod
    def day_entries(self, since: date) -> dict[date, int]:
        """How many entries each budget day has, from `since` on: a day that moved has more."""

    @abstractmethod
    def lane_figures(self, since: datetime) -> list[LaneFigures]:
        """Images first asked for at or after `since` that are at an end, by lane and model."""

    @abstractmethod
    def verify(self) -> list[InvariantCheck]:
        """Check every invariant of the books and report each."""
