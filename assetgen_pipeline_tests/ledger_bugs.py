"""Ledgers with one bug each, as gateways and predecessors had them; the machine must find all."""

from assetgen_pipeline.domain.budget import AttemptState, budget_date_at
from assetgen_pipeline.domain.errors import BudgetRefused, IdempotencyConflict
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.testing.ledger import InMemoryLedger
from assetgen_pipeline.testing.ledger_days import PROJECT_KEY, Day


class GuardRemoved(InMemoryLedger):
    def _take(self, hold, micros):
        for row in self.days_of(hold):
            row.held += micros


class GuardLooksAtOwnersOnly(InMemoryLedger):
    def _take(self, hold, micros):
        self._day_of(PROJECT_KEY, hold.budget_date).limit += 10**6
        super()._take(hold, micros)


class OverrunAddsHeadroom(InMemoryLedger):
    def _take(self, hold, micros):
        rows = self.days_of(hold)
        for row in rows:
            row.limit += row.overrun
        try:
            super()._take(hold, micros)
        finally:
            for row in rows:
                row.limit -= row.overrun


class CheckThenRecord(InMemoryLedger):
    """The predecessor: looks at what is spent, and records only after the answer."""

    def _take(self, hold, micros):
        for row in self.days_of(hold):
            if row.settled + micros > row.limit:
                super()._take(hold, micros)


class DoubleRelease(InMemoryLedger):
    def end_hold(self, held, state):
        rest = super().end_hold(held, state)
        for day in self.days_of(held.value):
            day.held -= rest.micros
        return rest


class OffByOneRelease(InMemoryLedger):
    def end_hold(self, held, state):
        rest = super().end_hold(held, state)
        if rest.micros:
            for day in self.days_of(held.value):
                day.held += 1
        return rest


class NothingReleased(InMemoryLedger):
    """Holds leak: phantom spend, false refusals."""

    def end_hold(self, held, state):
        rest = super().end_hold(held, state)
        for day in self.days_of(held.value):
            day.held += rest.micros
        return rest


class KeyConflictIgnored(InMemoryLedger):
    def reserve(self, **wanted):
        try:
            return super().reserve(**wanted)
        except IdempotencyConflict:
            return self.open_hold(wanted["batch_id"])


class IntentInsertedAgain(InMemoryLedger):
    def of_item(self, batch_id, item_key):
        found = super().of_item(batch_id, item_key)
        return [one for one in found if one.state is not AttemptState.INTENT]


class CoverForgetsCallsInFlight(InMemoryLedger):
    def free(self, held):
        return held.value.amount.micros - held.drawn - held.released


class FenceIgnored(InMemoryLedger):
    def usable(self, hold):
        held = self._holds[hold.hold_id]
        held.value = held.value.model_copy(update={"fence": hold.fence})
        return super().usable(hold)


class ExpiresWhateverTheFence(InMemoryLedger):
    def expire(self, hold):
        return super().expire(self._holds[hold.hold_id].value)


class ReplayBooksAgain(InMemoryLedger):
    def capture(self, attempt, **booking):
        before = self.known(attempt.attempt_id)
        super().capture(attempt, **booking)
        if before.state is AttemptState.CAPTURED:
            for day in self.days_of(self._holds[before.hold_id].value):
                day.settled += booking["cost"].micros


class CapturePopsBeforeCommit(InMemoryLedger):
    """Forgets the call in flight first; what then fails is lost."""

    def capture(self, attempt, **booking):
        before = self.known(attempt.attempt_id)
        if before.state is AttemptState.INTENT:
            self.end(before.attempt_id, AttemptState.VOIDED, "x", "", 0)
            return
        super().capture(attempt, **booking)


class LateCaptureDropped(InMemoryLedger):
    def capture(self, attempt, **booking):
        if self._holds[self.known(attempt.attempt_id).hold_id].open:
            super().capture(attempt, **booking)


class OverrunForgotten(InMemoryLedger):
    def book(self, before, cost):
        super().book(before, min(cost, before.ceiling.micros))


class UnknownOutcomeIsFree(InMemoryLedger):
    def assume_in_flight(self, held):
        for one in self.in_flight(held):
            self.end(one.attempt_id, AttemptState.VOIDED, "internal", "", 0)


class FloatMoney(InMemoryLedger):
    """Dollars in floating point."""

    def _take(self, hold, micros):
        for row in self.days_of(hold):
            if row.held / 1e6 + row.settled / 1e6 + micros / 1e6 > row.limit / 1e6:
                raise BudgetRefused(
                    estimate=Money(micros),
                    headroom=Money(0),
                    limit=Money(row.limit),
                    resets_at=self._clock.now(),
                    scope="owner",
                )
        for row in self.days_of(hold):
            row.held = int((row.held / 1e6 + micros / 1e6) * 1e6)


class ResetJob(InMemoryLedger):
    """One row per owner, set back when the date changes."""

    def today(self):
        today = super().today()
        last = getattr(self, "_last", today)
        if today != last:
            for (name, _), row in list(self._days.items()):
                row.held = row.settled = 0
                self._days[name, today] = row
        self._last = today
        return today


class SettlesOnTheDayOfTheAnswer(InMemoryLedger):
    def days_of(self, hold):
        return [self._day_of(name, self.today()) for name in (hold.owner, PROJECT_KEY)]


class EveryDayIsUtc(InMemoryLedger):
    """The zone is stripped from the instant."""

    def today(self):
        return self._clock.now().date()


class ZoneChangeGivesASecondBudget(InMemoryLedger):
    def today(self):
        return budget_date_at(self._clock.now(), self._zone)


class LoweredLimitForgotten(InMemoryLedger):
    def apply_limits(self, owner, day):
        self._day_of(owner, day)


class LoweredLimitBelowWhatIsTaken(InMemoryLedger):
    def apply_limits(self, owner, day):
        self._day_of(owner, day).limit = self.limit_of(owner).micros

    def figures(self, owner):
        told = super().figures(owner)
        row = self._days.get((owner, self.today())) or Day(self.limit_of(owner).micros)
        return told.model_copy(update={"limit": Money(row.limit)})


BUGS = [
    bug
    for bug in list(globals().values())
    if isinstance(bug, type) and issubclass(bug, InMemoryLedger) and bug is not InMemoryLedger
]
