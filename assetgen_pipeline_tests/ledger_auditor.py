"""A second, small opinion on the ledger: figures are derived from holds and attempts each time.

It keeps no balance that could drift, so it cannot share a ledger's mistakes.
"""

from dataclasses import dataclass, field
from datetime import date
from zoneinfo import ZoneInfo

from assetgen_pipeline.domain.budget import budget_date_at, day_bounds
from assetgen_pipeline.domain.errors import (
    BudgetRefused,
    HoldNotOpen,
    IdempotencyConflict,
    LedgerError,
)
from assetgen_pipeline.domain.money import Money

PROJECT = "\0"


@dataclass
class Try:
    """One attempt."""

    item: str
    number: int
    ceiling: int
    state: str = "intent"
    cost: int = 0
    covered: int = 0


@dataclass
class Cover:
    """One hold."""

    owner: str
    batch: str
    day: date
    amount: int
    fence: int = 1
    released: int = 0
    open: bool = True
    tries: list[Try] = field(default_factory=list)

    def in_flight(self):
        return [one for one in self.tries if one.state == "intent"]

    def left(self):
        """What the day still holds for it."""
        return self.amount - self.released - sum(one.covered for one in self.tries)

    def free(self):
        return self.left() - sum(one.ceiling for one in self.in_flight())


class Auditor:
    """What the ledger must say after each call."""

    def __init__(self, clock, *, limit, project, zone):
        self.clock, self.zone = clock, ZoneInfo(zone)
        self.default, self.project = limit, project
        self.limits = {}
        self.days = {}  # (scope, day): (limit, zone)
        self.covers = []

    # Figures

    def today(self):
        now = self.clock.now()
        carried = [
            day
            for (scope, day), (_limit, zone) in self.days.items()
            if scope == PROJECT
            and zone != self.zone
            and day_bounds(day, zone)[0] <= now < day_bounds(day, zone)[1]
        ]
        return min(carried, default=budget_date_at(now, self.zone))

    def of(self, scope, day):
        return [one for one in self.covers if one.day == day and scope in (PROJECT, one.owner)]

    def held(self, scope, day):
        return sum(one.left() for one in self.of(scope, day))

    def settled(self, scope, day):
        return sum(a.cost for one in self.of(scope, day) for a in one.tries)

    def overrun(self, scope, day):
        return sum(a.cost - a.covered for one in self.of(scope, day) for a in one.tries)

    def assumed(self, scope, day):
        tries = (a for one in self.of(scope, day) for a in one.tries)
        return sum(a.cost for a in tries if a.state == "assumed")

    def target(self, scope):
        return self.project if scope == PROJECT else self.limits.get(scope, self.default)

    def limit(self, scope, day):
        """A day under way keeps what is taken already; a new one has the limit that is set."""
        target = self.target(scope)
        if (scope, day) not in self.days:
            return target
        taken = self.held(scope, day) + self.settled(scope, day)
        return max(target, min(self.days[scope, day][0], taken))

    def figures(self, owner):
        day = self.today()
        return (
            day,
            self.limit(owner, day),
            self.held(owner, day),
            self.settled(owner, day),
            self.assumed(owner, day),
            self.overrun(owner, day),
        )

    def open_of(self, batch):
        return next((one for one in self.covers if one.batch == batch and one.open), None)

    # Calls

    def _apply_limits(self, owner, day):
        for scope in (owner, PROJECT):
            zone = self.days.get((scope, day), (0, self.zone))[1]
            self.days[scope, day] = (self.limit(scope, day), zone)

    def _require(self, owner, day, amount, *, limits):
        for scope in (owner, PROJECT):
            taken = self.held(scope, day) + self.settled(scope, day)
            limit = limits(scope, day)
            if amount > 0 and taken + amount > limit:
                raise BudgetRefused(
                    estimate=Money(amount),
                    headroom=Money(max(0, limit - taken)),
                    limit=Money(limit),
                    resets_at=self.clock.now(),
                    scope="project" if scope == PROJECT else f"owner:{scope}",
                )

    def reserve(self, owner, batch, amount):
        found = self.open_of(batch)
        if found is None:
            day = self.today()
            self._require(owner, day, amount, limits=self.limit)
            self._apply_limits(owner, day)
            found = Cover(owner, batch, day, amount)
            self.covers.append(found)
            return found
        if found.owner != owner:
            raise IdempotencyConflict("another owner's")
        missing = amount - found.free()
        self._require(owner, found.day, missing, limits=self.limit)
        self._apply_limits(owner, found.day)
        found.amount += max(0, missing)
        self._assume_all(found)
        found.fence += 1
        return found

    def _assume_all(self, cover):
        for one in cover.in_flight():
            self._book(cover, one, "assumed", one.ceiling)

    def intent(self, cover, fence, item, ceiling):
        if not cover.open or cover.fence != fence:
            raise HoldNotOpen("ended or taken over")
        others = [a for c in self.covers if c.batch == cover.batch for a in c.tries]
        same = [a for a in others if a.item == item]
        if any(a.state == "intent" for a in same):
            raise IdempotencyConflict("in flight")
        missing = ceiling - cover.free()
        self._require(
            cover.owner, cover.day, missing, limits=lambda scope, day: self.days[scope, day][0]
        )
        cover.amount += max(0, missing)
        made = Try(item, len(same) + 1, ceiling)
        cover.tries.append(made)
        return made

    def _book(self, cover, one, state, cost):
        room = cover.free() + (one.ceiling if one.state == "intent" else 0)
        more = cost - one.covered
        if more < 0:
            cover.released -= more
            one.covered = cost
        else:
            one.covered += min(more, room)
        one.state, one.cost = state, cost

    def capture(self, cover, one, cost):
        if one.state == "captured" and one.cost == cost:
            return
        if one.state not in ("intent", "assumed"):
            raise IdempotencyConflict(one.state)
        self._book(cover, one, "captured", cost)

    def end(self, cover, one, state):
        if one.state == state:
            return
        if one.state != "intent":
            raise IdempotencyConflict(one.state)
        self._book(cover, one, state, one.ceiling if state == "assumed" else 0)

    def reconcile(self, cover, one, cost):
        state = "voided" if cost is None else "captured"
        if one.state == "intent":
            raise LedgerError("in flight")
        if one.state == state and one.cost == (cost or 0):
            return
        if one.state != "assumed":
            raise IdempotencyConflict(one.state)
        self._book(cover, one, state, cost or 0)

    def finish(self, cover):
        self._assume_all(cover)
        rest = cover.left()
        cover.released += rest
        cover.open = False
        return Money(rest)

    def settle(self, batch):
        found = self.open_of(batch)
        return Money(0) if found is None else self.finish(found)

    def expire(self, cover, fence):
        return self.finish(cover) if cover.open and cover.fence == fence else None

    def set_limit(self, owner, limit):
        day = self.today()
        self.limits[owner] = limit
        self._apply_limits(owner, day)
