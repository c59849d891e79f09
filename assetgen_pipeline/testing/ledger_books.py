"""The books behind the ledger in memory: attempts, and what each entry does to days and holds."""

import hashlib

from assetgen_pipeline.domain.budget import (
    AttemptRecord,
    AttemptRequest,
    AttemptState,
    BudgetDay,
    InvariantCheck,
    StoredImage,
    budget_date_at,
    day_bounds,
    limit_in_force,
)
from assetgen_pipeline.domain.errors import IdempotencyConflict, LedgerError
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.testing.ledger_days import PROJECT_KEY, Day, Held, MemoryDays

_SENTENCES = {
    "I1": "No day holds and has spent more than its limit and its recorded overrun.",
    "I2": "A day's held amount is what its holds have neither drawn nor released.",
    "I3": "A day's settled amount is the cost of its captured and assumed attempts.",
}
_RUN_ENDED = "the run ended before the outcome was known"


class MemoryBooks(MemoryDays):
    """Attempts over days and holds, without a lock of their own."""

    def of_item(self, batch_id: str, item_key: str) -> list[AttemptRecord]:
        """All attempts of one item, oldest first."""
        wanted = (batch_id, item_key)
        return [one for one in self._attempts.values() if (one.batch_id, one.item_key) == wanted]

    def has_twin(self, held: Held, request: AttemptRequest) -> bool:
        """Whether the owner has this image, or an attempt at it in flight."""
        owner, image_id = held.value.owner, request.image_id
        in_flight = any(
            one.state is AttemptState.INTENT for one in self.attempts_at(owner, image_id)
        )
        return in_flight or len(self.booked_with(owner, image_id)) > request.gone

    def booked_with(self, owner: str, image_id: str) -> list[StoredImage]:
        """The images of one content address that attempts of an owner have, oldest first."""
        return [one.image for one in self.attempts_at(owner, image_id) if one.image is not None]

    def attempts_at(self, owner: str, image_id: str) -> list[AttemptRecord]:
        """The attempts of an owner at one content address, oldest first."""
        return [
            one
            for one in self._attempts.values()
            if one.image_id == image_id and self._holds[one.hold_id].value.owner == owner
        ]

    def add(self, held: Held, request: AttemptRequest) -> AttemptRecord:
        """Record an item's next attempt as an intent."""
        number = len(self.of_item(held.value.batch_id, request.item_key)) + 1
        name = f"{held.value.hold_id}/{request.item_key}/{number}"
        now = self._clock.now()
        made = AttemptRecord(
            attempt_id=hashlib.sha256(name.encode()).hexdigest(),
            hold_id=held.value.hold_id,
            batch_id=held.value.batch_id,
            item_key=request.item_key,
            attempt_no=number,
            image_id=request.image_id,
            row_number=request.row_number,
            scene_id=request.scene_id,
            variant=request.variant,
            provider=request.provider,
            model=request.model,
            lane=request.lane,
            run_id=request.run_id,
            state=AttemptState.INTENT,
            ceiling=request.ceiling,
            cost=None,
            cost_basis="none",
            code="",
            detail="",
            image=None,
            latency_ms=0,
            price_version=held.price_version,
            spend_date=budget_date_at(now, self._zone),
            budget_date=held.value.budget_date,
            intent_at=now,
            resolved_at=None,
        )
        held.attempts.append(made.attempt_id)
        self._attempts[made.attempt_id] = made
        return made

    def known(self, attempt_id: str) -> AttemptRecord:
        """The attempt of this id.

        Raises:
            LedgerError: there is none.
        """
        if attempt_id not in self._attempts:
            raise LedgerError("the ledger has no such attempt")
        return self._attempts[attempt_id]

    def refuse_final(self, before: AttemptRecord, allowed: set[AttemptState]) -> None:
        """Refuse to resolve what is resolved.

        Raises:
            IdempotencyConflict: the state is not one of `allowed`.
        """
        if before.state not in allowed:
            message = f"the attempt was {before.state.value} already"
            raise IdempotencyConflict(message)

    def end(
        self, attempt_id: str, state: AttemptState, code: str, detail: str, latency_ms: int
    ) -> None:
        """Resolve an attempt without a bill.

        Raises:
            IdempotencyConflict: it was resolved otherwise.
        """
        before = self.known(attempt_id)
        if before.state is state:
            return
        self.refuse_final(before, {AttemptState.INTENT})
        changes: dict[str, object] = {"state": state, "code": code, "detail": detail}
        if state is AttemptState.ASSUMED:
            self.book(before, before.ceiling.micros)
            changes |= {"cost": before.ceiling, "cost_basis": "assumed"}
        self.change(before, changes | {"latency_ms": latency_ms})

    def assume_in_flight(self, held: Held) -> None:
        """Book every open attempt of a hold at its ceiling."""
        for one in self.in_flight(held):
            self.end(one.attempt_id, AttemptState.ASSUMED, "internal", _RUN_ENDED, 0)

    def end_hold(self, held: Held, state: str) -> Money:
        """End a hold and return what was released."""
        self.assume_in_flight(held)
        rest = self.free(held)
        held.released += rest
        held.state = state
        for day in self.days_of(held.value):
            day.held -= rest
        return Money(rest)

    def reconcile_assumed(self, before: AttemptRecord, cost: Money | None) -> None:
        """Book what an assumed attempt really cost, or that it was free.

        Raises:
            IdempotencyConflict: the attempt is final already, and otherwise.
            LedgerError: it is still in flight.
        """
        if before.state is AttemptState.INTENT:
            raise LedgerError("the attempt is still in flight; settle its batch first")
        ended = AttemptState.VOIDED if cost is None else AttemptState.CAPTURED
        if (before.state, before.cost) == (ended, cost):
            return
        self.refuse_final(before, {AttemptState.ASSUMED})
        self.book(before, 0 if cost is None else cost.micros)
        basis = "none" if cost is None else "usage"
        self.change(before, {"state": ended, "cost": cost, "cost_basis": basis})

    def figures(self, owner: str) -> BudgetDay:
        """What stands against an owner's limit today."""
        today = self.today()
        row = self._days.get((owner, today)) or Day(self.limit_of(owner).micros)
        target, taken = self.limit_of(owner), row.held + row.settled
        assumed = sum(
            one.cost.micros
            for one in self._attempts.values()
            if one.state is AttemptState.ASSUMED
            and one.cost is not None
            and one.budget_date == today
            and owner in (PROJECT_KEY, self._holds[one.hold_id].value.owner)
        )
        return BudgetDay(
            owner="" if owner == PROJECT_KEY else owner,
            budget_date=today,
            limit=limit_in_force(target, present=Money(row.limit), taken=taken),
            held=Money(row.held),
            settled=Money(row.settled),
            assumed=Money(assumed),
            overrun=Money(row.overrun),
            resets_at=day_bounds(today, self._zone)[1],
        )

    def change(self, before: AttemptRecord, changes: dict[str, object]) -> None:
        """Store a resolved attempt."""
        after = before.model_copy(update=changes | {"resolved_at": self._clock.now()})
        self._attempts[before.attempt_id] = after

    def book(self, before: AttemptRecord, cost: int) -> None:
        """Move what an attempt costs from held to settled; what nothing covers is overrun."""
        held = self._holds[before.hold_id]
        covered = self._covered.get(before.attempt_id, 0)
        free = self.free(held)
        if before.state is AttemptState.INTENT:
            free += before.ceiling.micros
        more = min(cost - covered, free)
        overrun = cost - covered - more
        self._covered[before.attempt_id] = covered + more
        held.drawn += more
        held.released += max(0, -more)
        for day in self.days_of(held.value):
            day.held -= max(0, more)
            day.settled += more + overrun
            day.overrun += overrun

    def checks(self) -> list[InvariantCheck]:
        """Compare every day with its limit, its holds and its attempts."""
        broken: dict[str, list[str]] = {name: [] for name in _SENTENCES}
        for (owner, day), row in self._days.items():
            left = spent = 0
            for held in self._holds.values():
                if held.value.budget_date == day and owner in (held.value.owner, PROJECT_KEY):
                    left += held.value.amount.micros - held.drawn - held.released
                    costs = (self._attempts[name].cost for name in held.attempts)
                    spent += sum(cost.micros for cost in costs if cost is not None)
            within = row.held + row.settled <= row.limit + row.overrun
            sound = {"I1": within, "I2": row.held == left, "I3": row.settled == spent}
            for name in (name for name, holds_true in sound.items() if not holds_true):
                broken[name].append(f"{owner} {day}")
        found = ((name, text, tuple(broken[name])) for name, text in _SENTENCES.items())
        return [InvariantCheck(name=n, sentence=text, violations=rows) for n, text, rows in found]
