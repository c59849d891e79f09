"""A ledger in memory: the same contract as the SQL ledger, by other means."""

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
    budget_date_at,
)
from assetgen_pipeline.domain.day_spend import DaySpend
from assetgen_pipeline.domain.errors import ContentTaken, IdempotencyConflict
from assetgen_pipeline.domain.lanes import LaneFigures
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.ports.ledger import Ledger
from assetgen_pipeline.testing.ledger_days import PROJECT_KEY
from assetgen_pipeline.testing.ledger_lanes import lane_figures
from assetgen_pipeline.testing.ledger_spend import MemorySpend


class InMemoryLedger(MemorySpend, Ledger):
    """Keeps everything in dictionaries under one lock."""

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
        with self._lock, self.refusals_noted(owner, batch_id, amount):
            held = self.open_of(batch_id)
            if held is None:
                held = self.new_hold(owner, batch_id, amount, price_version)
                held.value = held.value.model_copy(update={"run_id": run_id, "worker": worker})
                return held.value
            if held.value.owner != owner:
                raise IdempotencyConflict("the batch's open hold is another owner's")
            with self.undone_where_refused():
                self.apply_limits(owner, held.value.budget_date)
                self.extend(held, amount.micros - self.free(held))
            self.assume_in_flight(held)
            held.price_version = price_version
            changes = {"fence": held.value.fence + 1, "run_id": run_id, "worker": worker}
            held.value = held.value.model_copy(update=changes)
            return held.value

    def open_hold(self, batch_id: str) -> Hold | None:
        """The batch's open hold, if any."""
        with self._lock:
            held = self.open_of(batch_id)
            return held.value if held else None

    def intent(self, hold: Hold, request: AttemptRequest) -> AttemptToken:
        """Record the intent to make one paid attempt.

        Raises:
            BudgetRefused: the hold has too little left, and so has its day.
            HoldNotOpen: closed, or taken over by another run.
            ContentTaken: the owner has the image, or is having it made.
            IdempotencyConflict: the item has an attempt in flight.
        """
        with self._lock:
            held = self.usable(hold)
            for other in self.of_item(hold.batch_id, request.item_key):
                if other.state is AttemptState.INTENT:
                    raise IdempotencyConflict("the item has an attempt in flight already")
            if request.once and self.has_twin(held, request):
                raise ContentTaken("the owner has this image, or is having it made")
            spare = 0 if request.further else self.free(held)
            self.extend(held, request.ceiling.micros - spare)
            made = self.add(held, request)
            return AttemptToken.mint(
                attempt_id=made.attempt_id, attempt_no=made.attempt_no, ceiling=made.ceiling
            )

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
        request_id: str = "",  # noqa: ARG002
    ) -> None:
        """Book the actual cost; what was assumed is corrected.

        Raises:
            IdempotencyConflict: the attempt was already resolved otherwise.
        """
        with self._lock:
            before = self.known(attempt.attempt_id)
            if before.state is AttemptState.CAPTURED and before.cost == cost:
                return
            self.refuse_final(before, {AttemptState.INTENT, AttemptState.ASSUMED})
            self.book(before, cost.micros)
            changes = {
                "state": AttemptState.CAPTURED,
                "cost": cost,
                "cost_basis": cost_basis,
                "image": image,
                "code": code,
                "detail": detail,
                "latency_ms": latency_ms,
            }
            self.change(before, changes)

    def void(self, token: AttemptToken, *, code: str, detail: str, latency_ms: int = 0) -> None:
        """Book that the attempt was proven not to be billed.

        Raises:
            IdempotencyConflict: the attempt was already resolved otherwise.
        """
        with self._lock:
            self.end(token.attempt_id, AttemptState.VOIDED, code, detail, latency_ms)

    def assume(self, token: AttemptToken, *, code: str, detail: str, latency_ms: int = 0) -> None:
        """Book the ceiling, because nobody can know whether the attempt is billed.

        Raises:
            IdempotencyConflict: the attempt was already resolved otherwise.
        """
        with self._lock:
            self.end(token.attempt_id, AttemptState.ASSUMED, code, detail, latency_ms)

    def reuse(self, hold: Hold, request: AttemptRequest, image: StoredImage) -> None:
        """Record that an item is served from a stored image, at no cost.

        Raises:
            HoldNotOpen: closed, or taken over by another run.
        """
        with self._lock:
            held = self.usable(hold)
            for other in self.of_item(hold.batch_id, request.item_key):
                same = (other.hold_id, other.cost_basis) == (hold.hold_id, "reused")
                if same and other.image == image:
                    return
            made = self.add(held, request)
            changes = {
                "state": AttemptState.CAPTURED,
                "ceiling": ZERO,
                "cost": ZERO,
                "cost_basis": "reused",
                "image": image,
            }
            self.change(made, changes)

    def settle(self, batch_id: str) -> Money:
        """End the batch's open hold and return what was released."""
        with self._lock:
            held = self.open_of(batch_id)
            return ZERO if held is None else self.end_hold(held, "closed")

    def expire(self, hold: Hold) -> Money | None:
        """End a dead run's hold; `None` where it has ended or its fence has moved on."""
        with self._lock:
            held = self._holds[hold.hold_id]
            if not held.open or held.value.fence != hold.fence:
                return None
            return self.end_hold(held, "expired")

    def expire_all(self, holds: Sequence[Hold]) -> list[Money | None]:
        """`expire` for each of these holds."""
        return [self.expire(hold) for hold in holds]

    def attempts(self, batch_id: str, *, since: datetime | None = None) -> list[AttemptRecord]:
        """All attempts of a batch, oldest first; those that changed at or after `since`."""
        with self._lock:
            return [
                one
                for one in self._attempts.values()
                if one.batch_id == batch_id
                and (since is None or (one.resolved_at or one.intent_at) >= since)
            ]

    def stored_images(self, owner: str, image_ids: Sequence[str]) -> dict[str, OwnedImage]:
        """Images that this owner already paid for, the newest of each content address."""
        with self._lock:
            booked = {name: self.booked_with(owner, name) for name in dict.fromkeys(image_ids)}
            return {
                name: OwnedImage(image=images[-1], served=len(images))
                for name, images in booked.items()
                if images
            }

    def booked_images(self, *, batch_id: str | None = None) -> list[BookedImage]:
        """Captured attempts that have an image, of one batch or of all."""
        with self._lock:
            return [
                BookedImage(
                    attempt_id=one.attempt_id,
                    batch_id=one.batch_id,
                    object_name=one.image.object_name,
                )
                for one in self._attempts.values()
                if one.image is not None and batch_id in (None, one.batch_id)
            ]

    def attempt_states(self, attempt_ids: Sequence[str]) -> dict[str, AttemptState]:
        """Where each of these attempts stands; unknown ones are left out."""
        with self._lock:
            known = self._attempts
            return {name: known[name].state for name in attempt_ids if name in known}

    def assumed_attempts(self) -> list[AttemptRecord]:
        """All attempts whose bill nobody knows, oldest first."""
        with self._lock:
            attempts = self._attempts.values()
            return [one for one in attempts if one.state is AttemptState.ASSUMED]

    def reconcile(self, attempt_id: str, cost: Money | None) -> None:
        """Book what an assumed attempt really cost, or with `None` that it was not billed.

        Raises:
            IdempotencyConflict: the attempt is final already, and otherwise.
            LedgerError: no such attempt, or it is still in flight.
        """
        with self._lock:
            self.reconcile_assumed(self.known(attempt_id), cost)

    def image_users(self, owner: str, image_ids: Sequence[str]) -> dict[str, set[str]]:
        """The owner's batches that were served each stored image, by content address."""
        users: dict[str, set[str]] = {}
        with self._lock:
            for one in self._attempts.values():
                if one.image is None or self._holds[one.hold_id].value.owner != owner:
                    continue
                if one.image_id in image_ids:
                    users.setdefault(one.image_id, set()).add(one.batch_id)
        return users

    def day(self, owner: str) -> BudgetDay:
        """The owner's budget today, also where nothing was reserved yet."""
        with self._lock:
            return self.figures(owner)

    def days(self) -> list[BudgetDay]:
        """Today's budget of every owner that used it today or has a limit of its own."""
        with self._lock:
            today = self.today()
            used = {name for name, day in self._days if day == today and name != PROJECT_KEY}
            return [self.figures(owner) for owner in sorted(used | set(self._limits))]

    def project_day(self) -> BudgetDay | None:
        """The deployment's budget today; `None` where it has no limit."""
        with self._lock:
            return self.figures(PROJECT_KEY) if self.has_project_limit else None

    def set_limit(self, owner: str, limit: Money, *, set_by: str) -> BudgetDay:  # noqa: ARG002
        """Change an owner's daily limit; today never below what it holds or spent."""
        with self._lock:
            self._limits[owner] = limit
            self.apply_limits(owner, self.today())
            return self.day(owner)

    def open_holds(self) -> list[Hold]:
        """All open holds, oldest first."""
        with self._lock:
            return [held.value for held in self._holds.values() if held.open]

    def budget_date(self, at: datetime) -> date:
        """The budget day of an instant."""
        return budget_date_at(at, self._zone)

    def day_spend(self, day: date) -> DaySpend:
        """One budget day in sums, owners in name order."""
        with self._lock:
            return self.spend_of(day)

    def day_entries(self, since: date) -> dict[date, int]:
        """How many entries each budget day has, from `since` on."""
        with self._lock:
            return self.entries_since(since)

    def lane_figures(self, since: datetime) -> list[LaneFigures]:
        """Images first asked for at or after `since` that are at an end, by lane and model."""
        with self._lock:
            return lane_figures(self._attempts.values(), since)

    def verify(self) -> list[InvariantCheck]:
        """Check the invariants I1 to I3 of the SQL ledger; there is no journal here."""
        with self._lock:
            return self.checks()
