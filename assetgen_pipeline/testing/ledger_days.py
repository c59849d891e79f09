"""The days and holds of the ledger in memory, and what keeps them within their limits."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from zoneinfo import ZoneInfo

from assetgen_pipeline.domain.budget import (
    AttemptRecord,
    AttemptState,
    Hold,
    budget_date_at,
    day_bounds,
    limit_in_force,
)
from assetgen_pipeline.domain.errors import (
    BudgetRefused,
    HoldNotOpen,
)
from assetgen_pipeline.domain.money import MAX_MICROS, Money
from assetgen_pipeline.ports.clock import Clock

PROJECT_KEY = "\0project"  # no owner has this name


@dataclass(slots=True)
class Day:
    """One scope's day, in micros."""

    limit: int
    held: int = 0
    settled: int = 0
    overrun: int = 0
    zone: str = "UTC"


@dataclass(slots=True)
class Held:
    """A hold and what has become of it."""

    value: Hold
    price_version: str
    drawn: int = 0
    released: int = 0
    state: str = "open"
    attempts: list[str] = field(default_factory=list)

    @property
    def open(self) -> bool:
        """Whether it still holds money."""
        return self.state == "open"


class MemoryDays:
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
        self.has_project_limit = project_limit is not None
        self._project = project_limit or Money(MAX_MICROS)
        self._limits: dict[str, Money] = {}
        self._days: dict[tuple[str, date], Day] = {}
        self._holds: dict[str, Held] = {}
        self._attempts: dict[str, AttemptRecord] = {}
        self._covered: dict[str, int] = {}
        self._lock = threading.RLock()

    def today(self) -> date:
        """The budget day of this instant; a changed zone counts once the present day is over."""
        now = self._clock.now()
        present = []
        for (name, day), row in self._days.items():
            if name == PROJECT_KEY and row.zone != self._zone.key:
                start, end = day_bounds(day, ZoneInfo(row.zone))
                present += [day] if start <= now < end else []
        return min(present, default=budget_date_at(now, self._zone))

    def limit_of(self, owner: str) -> Money:
        """The limit that a new day gets."""
        if owner == PROJECT_KEY:
            return self._project
        return self._limits.get(owner, self._default)

    def days_of(self, hold: Hold) -> list[Day]:
        """The hold's day, of its owner and of the deployment."""
        return [self._day_of(name, hold.budget_date) for name in (hold.owner, PROJECT_KEY)]

    def _day_of(self, name: str, day: date) -> Day:
        made = Day(self.limit_of(name).micros, zone=self._zone.key)
        return self._days.setdefault((name, day), made)

    @contextmanager
    def undone_where_refused(self) -> Iterator[None]:
        """Leave every day as it was, and none that was not there, where the budget refuses."""
        before = {key: replace(row) for key, row in self._days.items()}
        try:
            yield
        except BudgetRefused:
            self._days = before
            raise

    def apply_limits(self, owner: str, day: date) -> None:
        """Bring the day to the limits now set, as far as they can be lowered."""
        for name in (owner, PROJECT_KEY):
            row = self._day_of(name, day)
            row.limit = limit_in_force(
                self.limit_of(name), present=Money(row.limit), taken=row.held + row.settled
            ).micros

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

    def new_hold(self, owner: str, batch_id: str, amount: Money, price_version: str) -> Held:
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
            opened_at=self._clock.now(),
        )
        with self.undone_where_refused():
            self.apply_limits(owner, value.budget_date)
            self._take(value, amount.micros)
        return self._holds.setdefault(value.hold_id, Held(value, price_version))

    def _take(self, hold: Hold, micros: int) -> None:
        for name, row in zip((hold.owner, PROJECT_KEY), self.days_of(hold), strict=True):
            if micros and row.held + row.settled + micros > row.limit:
                raise BudgetRefused(
                    estimate=Money(micros),
                    headroom=Money(max(0, row.limit - row.held - row.settled)),
                    limit=Money(row.limit),
                    resets_at=day_bounds(hold.budget_date, self._zone)[1],
                    scope="project" if name == PROJECT_KEY else f"owner:{name}",
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

    def in_flight(self, held: Held) -> list[AttemptRecord]:
        """The open attempts of a hold."""
        attempts = (self._attempts[name] for name in held.attempts)
        return [one for one in attempts if one.state is AttemptState.INTENT]

    def free(self, held: Held) -> int:
        """What a hold has left for further attempts, in micros."""
        inflight = sum(one.ceiling.micros for one in self.in_flight(held))
        return held.value.amount.micros - held.drawn - held.released - inflight
