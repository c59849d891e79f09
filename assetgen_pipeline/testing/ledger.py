"""A ledger in memory: the same contract as the SQL ledger, by other means."""

from collections.abc import Sequence

from assetgen_pipeline.domain.budget import (
    AttemptRecord,
    AttemptRequest,
    AttemptState,
    AttemptToken,
    BudgetDay,
    Hold,
    InvariantCheck,
    StoredImage,
    day_bounds,
)
from assetgen_pipeline.domain.errors import (
    IdempotencyConflict,
)
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.ports import Ledger
from assetgen_pipeline.testing.ledger_books import Day, MemoryBooks


class InMemoryLedger(MemoryBooks, Ledger):
    """Keeps everything in dictionaries under one lock."""

    def reserve(
        self,
        *,
        owner: str,
        batch_id: str,
        run_id: str,  # noqa: ARG002
        amount: Money,
        price_version: str,
    ) -> Hold:
        """Hold `amount` on today's budget, or adopt the batch's open hold.

        Raises:
            BudgetRefused: the day's limit does not cover it; an open hold stays as it was.
            IdempotencyConflict: the batch's open hold is another owner's.
        """
        with self._lock:
            held = self.open_of(batch_id)
            if held is None:
                return self.new_hold(owner, batch_id, amount, price_version)
            if held.value.owner != owner:
                raise IdempotencyConflict("the batch's open hold is another owner's")
            self.apply_limits(owner, held.value.budget_date)
            self.extend(held, amount.micros - self.free(held))
            self.assume_in_flight(held)
            held.price_version = price_version
            held.value = held.value.model_copy(update={"fence": held.value.fence + 1})
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
            IdempotencyConflict: the item has an attempt in flight.
        """
        with self._lock:
            held = self.usable(hold)
            for other in self.of_item(hold.batch_id, request.item_key):
                if other.state is AttemptState.INTENT:
                    raise IdempotencyConflict("the item has an attempt in flight already")
            self.extend(held, request.ceiling.micros - self.free(held))
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
            if held is None:
                return ZERO
            self.assume_in_flight(held)
            rest = self.free(held)
            held.released += rest
            held.open = False
            for day in self.days_of(held.value):
                day.held -= rest
            return Money(rest)

    def attempts(self, batch_id: str) -> list[AttemptRecord]:
        """All attempts of a batch, oldest first."""
        with self._lock:
            return [one for one in self._attempts.values() if one.batch_id == batch_id]

    def stored_images(self, owner: str, image_ids: Sequence[str]) -> dict[str, StoredImage]:
        """Images that this owner already paid for, by content address."""
        wanted = set(image_ids)
        with self._lock:
            return {
                one.image_id: one.image
                for one in self._attempts.values()
                if one.image is not None
                and one.image_id in wanted
                and self._holds[one.hold_id].value.owner == owner
            }

    def day(self, owner: str) -> BudgetDay:
        """The owner's budget today, also where nothing was reserved yet."""
        with self._lock:
            today = self.today()
            day = self._days.get((owner, today)) or Day(self.limit_of(owner).micros)
            assumed = sum(
                one.cost.micros
                for one in self._attempts.values()
                if one.state is AttemptState.ASSUMED
                and one.cost is not None
                and one.budget_date == today
                and self._holds[one.hold_id].value.owner == owner
            )
            return BudgetDay(
                owner=owner,
                budget_date=today,
                limit=Money(day.limit),
                held=Money(day.held),
                settled=Money(day.settled),
                assumed=Money(assumed),
                overrun=Money(day.overrun),
                resets_at=day_bounds(today, self._zone)[1],
            )

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

    def verify(self) -> list[InvariantCheck]:
        """Check the invariants I1 to I3 of the SQL ledger; there is no journal here."""
        with self._lock:
            return self.checks()
