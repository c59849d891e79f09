"""The books behind the ledger in memory: days, holds and what each entry does to them."""

import hashlib
import threading
from dataclasses import dataclass, field
from datetime import date
from zoneinfo import ZoneInfo

from assetgen_pipeline.domain.budget import (
    AttemptRecord,
    AttemptRequest,
    AttemptState,
    Hold,
    InvariantCheck,
    budget_date_at,
    day_bounds,
)
from assetgen_pipeline.domain.errors import (
    BudgetRefused,
    HoldNotOpen,
    IdempotencyConflict,
    LedgerError,
)
from assetgen_pipeline.domain.money import MAX_MICROS, Money
from assetgen_pipeline.ports import Clock

_PROJECT_KEY = "\0project"  # no owner has this name
_SENTENCES = {
    "I1": "No day holds and has spent more than its limit and its recorded overrun.",
    "I2": "A day's held amount is what its holds have neither drawn nor released.",
    "I3": "A day's settled amount is the cost of its captured and assumed attempts.",
}
_RUN_ENDED = "the run ended before the outcome was known"


@dataclass(slots=True)
class Day:
    """One scope's day, in micros."""

    limit: int
    held: int = 0
    settled: int = 0
    overrun: int = 0


@dataclass(slots=True)
class Held:
    """A hold and what has become of it."""

    value: Hold
    price_version: str
    drawn: int = 0
    released: int = 0
    open: bool = True
    attempts: list[str] = field(default_factory=list)


class MemoryBooks:
    """State and rules, without a lock of their own."""

    def __init__(
        self,
        *,
        clock: Clock,
        default_limit: Money,
        project_limit: Money | None = None,
        time_zone: ZoneInfo | None = None,
    ) -> None:
        """Begin empty, with the days of `time_zone` (UTC)."""
        self._clock = clock
        self._zone = time_zone or ZoneInfo("UTC")
        self._default = default_limit
        self._project = project_limit or Money(MAX_MICROS)
        self._limits: dict[str, Money] = {}
        self._days: dict[tuple[str, date], Day] = {}
        self._holds: dict[str, Held] = {}
        self._attempts: dict[str, AttemptRecord] = {}
        self._covered: dict[str, int] = {}
        self._lock = threading.RLock()

    def today(self) -> date:
        """The budget day of this instant."""
        return budget_date_at(self._clock.now(), self._zone)

    def limit_of(self, owner: str) -> Money:
        """The limit that a new day gets."""
        if owner == _PROJECT_KEY:
            return self._project
        return self._limits.get(owner, self._default)

    def days_of(self, hold: Hold) -> list[Day]:
        """The hold's day, of its owner and of the deployment."""
        return [self._day_of(name, hold.budget_date) for name in (hold.owner, _PROJECT_KEY)]

    def _day_of(self, name: str, day: date) -> Day:
        return self._days.setdefault((name, day), Day(self.limit_of(name).micros))

    def apply_limits(self, owner: str, day: date) -> None:
        """Bring the owner's day to the limit now set, as far as it can be lowered."""
        row = self._day_of(owner, day)
        target = self.limit_of(owner).micros
        row.limit = max(target, min(row.limit, row.held + row.settled))

    def open_of(self, batch_id: str) -> Held | None:
        """The batch's open hold."""
        batch = (held for held in self._holds.values() if held.value.batch_id == batch_id)
        return next((held for held in batch if held.open), None)

    def usable(self, hold: Hold) -> Held:
        """The hold, if whoever has `hold` may still send.

        Raises:
            HoldNotOpen: closed, or taken over by another run.
        """
        held = self._holds.get(hold.hold_id)
        if held is None or not held.open:
            raise HoldNotOpen("the hold has ended")
        if held.value.fence != hold.fence:
            raise HoldNotOpen("another run took the hold over")
        return held

    def new_hold(self, owner: str, batch_id: str, amount: Money, price_version: str) -> Hold:
        """Open a hold on today's budget.

        Raises:
            BudgetRefused: the day's limit does not cover it.
        """
        number = sum(held.value.batch_id == batch_id for held in self._holds.values()) + 1
        key = f"reserve:{batch_id}:{number}"
        value = Hold(
            hold_id=hashlib.sha256(key.encode()).hexdigest()[:32],
            batch_id=batch_id,
            owner=owner,
            budget_date=self.today(),
            amount=amount,
            fence=1,
        )
        self.apply_limits(owner, value.budget_date)
        self._take(value, amount.micros)
        self._holds[value.hold_id] = Held(value, price_version)
        return value

    def _take(self, hold: Hold, micros: int) -> None:
        for name, row in zip((hold.owner, _PROJECT_KEY), self.days_of(hold), strict=True):
            if micros and row.held + row.settled + micros > row.limit:
                raise BudgetRefused(
                    estimate=Money(micros),
                    headroom=Money(max(0, row.limit - row.held - row.settled)),
                    limit=Money(row.limit),
                    resets_at=day_bounds(hold.budget_date, self._zone)[1],
                    scope="project" if name == _PROJECT_KEY else f"owner:{name}",
                )
        for row in self.days_of(hold):
            row.held += micros

    def extend(self, held: Held, micros: int) -> None:
        """Add cover to a hold, on its own day.

        Raises:
            BudgetRefused: that day's limit does not cover it.
        """
        if micros > 0:
            self._take(held.value, micros)
            amount = held.value.amount + Money(micros)
            held.value = held.value.model_copy(update={"amount": amount})

    def _in_flight(self, held: Held) -> list[AttemptRecord]:
        attempts = (self._attempts[name] for name in held.attempts)
        return [one for one in attempts if one.state is AttemptState.INTENT]

    def free(self, held: Held) -> int:
        """What a hold has left for further attempts, in micros."""
        inflight = sum(one.ceiling.micros for one in self._in_flight(held))
        return held.value.amount.micros - held.drawn - held.released - inflight

    def of_item(self, batch_id: str, item_key: str) -> list[AttemptRecord]:
        """All attempts of one item, oldest first."""
        wanted = (batch_id, item_key)
        return [one for one in self._attempts.values() if (one.batch_id, one.item_key) == wanted]

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
        for one in self._in_flight(held):
            self.end(one.attempt_id, AttemptState.ASSUMED, "internal", _RUN_ENDED, 0)

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
                if held.value.budget_date == day and owner in (held.value.owner, _PROJECT_KEY):
                    left += held.value.amount.micros - held.drawn - held.released
                    costs = (self._attempts[name].cost for name in held.attempts)
                    spent += sum(cost.micros for cost in costs if cost is not None)
            within = row.held + row.settled <= row.limit + row.overrun
            sound = {"I1": within, "I2": row.held == left, "I3": row.settled == spent}
            for name in (name for name, holds_true in sound.items() if not holds_true):
                broken[name].append(f"{owner} {day}")
        found = ((name, text, tuple(broken[name])) for name, text in _SENTENCES.items())
        return [InvariantCheck(name=n, sentence=text, violations=rows) for n, text, rows in found]
