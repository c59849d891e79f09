"""Every call of the ledger in any order, at any time, with every past call repeated.

After each call the ledger must say what the auditor says, and keep its own invariants.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from assetgen_pipeline.adapters.sql_ledger import open_sql_ledger
from assetgen_pipeline.domain.errors import AssetgenError, BudgetRefused
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline_tests.ledger_auditor import PROJECT, Auditor
from assetgen_pipeline_tests.ledger_helpers import IMAGE, broken, request

OWNERS = some.sampled_from(["ann", "bob"])
BATCHES = some.sampled_from(["b1", "b2", "b3", "b4"])
AMOUNTS = some.sampled_from([0, 1, 99, 100, 101, 300, 500, 1000, 1001])
CEILINGS = some.sampled_from([0, 1, 60, 100, 250])
PICKS = some.integers(0, 10**6)
LIMIT, PROJECT_LIMIT = 1000, 1600
ZONES = ["UTC", "Asia/Tokyo", "America/Los_Angeles", "Africa/Cairo", "Australia/Lord_Howe"]
# Around midnights that do not exist, come twice, or belong to days of odd length.
STARTS = [
    "2026-01-05T23:59:58+00:00",
    "2024-04-25T21:59:50+00:00",
    "2024-11-03T04:00:00+00:00",
    "2024-04-07T13:29:59+00:00",
    "2024-03-10T09:59:59+00:00",
]
STEPS = [1, -1, 3600, -3600, 86_400, -7200, 3 * 86_400, 30, 43_200]


class LedgerMachine(RuleBasedStateMachine):
    """Set `build` (a function of clock, zone, limit, project) and `close`."""

    build = None

    @initialize(start=some.sampled_from(STARTS), zone=some.sampled_from(ZONES))
    def open_books(self, start, zone):
        self.begin()
        self.clock = ManualClock(datetime.fromisoformat(start).astimezone(UTC))
        self.auditor = Auditor(self.clock, limit=LIMIT, project=PROJECT_LIMIT, zone=zone)
        self.ledger = type(self).build(self.clock, zone=zone, limit=LIMIT, project=PROJECT_LIMIT)
        self.holds = []  # (hold as it was read, its cover)
        self.tokens = []  # (token, cover, try)
        self.past = []

    def begin(self):
        """Make room for new books."""

    def teardown(self):
        if hasattr(self, "ledger"):
            try:
                assert broken(self.ledger) == []
            finally:
                self.close(self.ledger)

    def close(self, ledger):
        """Let go of a ledger."""

    def _same(self, real, expected):
        """Make one call on both sides: the same answer, or the same refusal."""
        wanted, refused, got, refusal = None, None, None, None
        try:
            got = real()
        except AssetgenError as error:
            refusal = error
        try:
            wanted = expected()
        except AssetgenError as error:
            refused = error
        assert type(refusal) is type(refused), (refusal, refused)
        if isinstance(refused, BudgetRefused):
            said = (refusal.headroom, refusal.limit, refusal.scope, refusal.estimate)
            assert said == (refused.headroom, refused.limit, refused.scope, refused.estimate)
        return got, wanted, refused

    def _call(self, name, *arguments):
        self.past.append((name, arguments))
        getattr(self, f"do_{name}")(*arguments)

    # What a call does, so that a past one can be repeated just so.

    def do_reserve(self, owner, batch, amount):
        hold, cover, refused = self._same(
            lambda: self.ledger.reserve(
                owner=owner, batch_id=batch, run_id="r", amount=Money(amount), price_version="p"
            ),
            lambda: self.auditor.reserve(owner, batch, amount),
        )
        if refused is None:
            told = (hold.owner, hold.batch_id, hold.budget_date, hold.amount.micros, hold.fence)
            assert told == (cover.owner, cover.batch, cover.day, cover.amount, cover.fence)
            self.holds.append((hold, cover))

    def do_intent(self, pick, item, ceiling):
        hold, cover = self.holds[pick % len(self.holds)]
        token, made, refused = self._same(
            lambda: self.ledger.intent(hold, request(item, ceiling)),
            lambda: self.auditor.intent(cover, hold.fence, item, ceiling),
        )
        if refused is None:
            assert (token.attempt_no, token.ceiling.micros) == (made.number, made.ceiling)
            self.tokens.append((token, cover, made))

    def do_capture(self, pick, cost):
        token, cover, made = self.tokens[pick % len(self.tokens)]
        micros = {"free": 0, "below": made.ceiling // 2, "at": made.ceiling}.get(
            cost, made.ceiling + 37
        )
        self._same(
            lambda: self.ledger.capture(token, cost=Money(micros), cost_basis="usage", image=IMAGE),
            lambda: self.auditor.capture(cover, made, micros),
        )

    def do_end(self, pick, state):
        token, cover, made = self.tokens[pick % len(self.tokens)]
        call = self.ledger.void if state == "voided" else self.ledger.assume
        self._same(
            lambda: call(token, code="x", detail=""),
            lambda: self.auditor.end(cover, made, state),
        )

    def do_reconcile(self, pick, cost):
        token, cover, made = self.tokens[pick % len(self.tokens)]
        self._same(
            lambda: self.ledger.reconcile(token.attempt_id, None if cost is None else Money(cost)),
            lambda: self.auditor.reconcile(cover, made, cost),
        )

    def do_settle(self, batch):
        released, expected, _ = self._same(
            lambda: self.ledger.settle(batch), lambda: self.auditor.settle(batch)
        )
        assert released == expected

    def do_expire(self, picks):
        some = [self.holds[pick % len(self.holds)] for pick in picks]
        released, expected, _ = self._same(
            lambda: self.ledger.expire_all([hold for hold, _ in some]),
            lambda: [self.auditor.expire(cover, hold.fence) for hold, cover in some],
        )
        assert released == expected

    def do_set_limit(self, owner, limit):
        self._same(
            lambda: self.ledger.set_limit(owner, Money(limit), set_by="op"),
            lambda: self.auditor.set_limit(owner, limit),
        )

    # Rules

    @rule(owner=OWNERS, batch=BATCHES, amount=AMOUNTS)
    def reserve(self, owner, batch, amount):
        self._call("reserve", owner, batch, amount)

    @precondition(lambda self: self.holds)
    @rule(pick=PICKS, item=some.sampled_from("ijk"), ceiling=CEILINGS)
    def intent(self, pick, item, ceiling):
        self._call("intent", pick, item, ceiling)

    @precondition(lambda self: self.holds)
    @rule(item=some.sampled_from("ijk"), ceiling=CEILINGS)
    def intent_on_the_newest_hold(self, item, ceiling):
        self._call("intent", len(self.holds) - 1, item, ceiling)

    @precondition(lambda self: self.tokens)
    @rule(pick=PICKS, cost=some.sampled_from(["free", "below", "at", "above"]))
    def capture(self, pick, cost):
        self._call("capture", pick, cost)

    @precondition(lambda self: self.tokens)
    @rule(cost=some.sampled_from(["free", "below", "at", "above"]))
    def capture_the_newest(self, cost):
        self._call("capture", len(self.tokens) - 1, cost)

    @precondition(lambda self: self.tokens)
    @rule(pick=PICKS, state=some.sampled_from(["voided", "assumed"]))
    def end(self, pick, state):
        self._call("end", pick, state)

    @precondition(lambda self: self.tokens)
    @rule(pick=PICKS, cost=some.sampled_from([None, 0, 40, 150]))
    def reconcile(self, pick, cost):
        self._call("reconcile", pick, cost)

    @rule(batch=BATCHES)
    def settle(self, batch):
        self._call("settle", batch)

    @precondition(lambda self: self.holds)
    @rule(picks=some.lists(PICKS, max_size=4))
    def expire(self, picks):
        self._call("expire", picks)

    @rule(owner=OWNERS, limit=some.sampled_from([0, 100, 400, 1000, 2500]))
    def set_limit(self, owner, limit):
        self._call("set_limit", owner, limit)

    @precondition(lambda self: self.past)
    @rule(pick=PICKS)
    def repeat_a_past_call(self, pick):
        name, arguments = self.past[pick % len(self.past)]
        getattr(self, f"do_{name}")(*arguments)

    @rule(seconds=some.sampled_from(STEPS))
    def step_the_clock(self, seconds):
        self.clock.set(self.clock.now() + timedelta(seconds=seconds))

    @rule(zone=some.sampled_from(ZONES))
    def restart_with_another_zone(self, zone):
        self.auditor.zone = type(self.auditor.zone)(zone)
        self.ledger = self.reopen(self.ledger, zone)

    def reopen(self, ledger, zone):
        """Let the process die and another one open the books."""
        self.close(ledger)
        return type(self).build(self.clock, zone=zone, limit=LIMIT, project=PROJECT_LIMIT)

    # What must hold after each step

    @invariant()
    def the_ledger_says_what_the_auditor_says(self):
        if not hasattr(self, "ledger"):
            return
        for owner in ("ann", "bob", PROJECT):
            day = self.ledger.project_day() if owner == PROJECT else self.ledger.day(owner)
            figures = (day.limit, day.held, day.settled, day.assumed, day.overrun)
            told = (day.budget_date, *(figure.micros for figure in figures))
            assert told == self.auditor.figures(owner), owner
            assert day.held + day.settled <= day.limit + day.overrun
        covers = [one for one in self.auditor.covers if one.open]
        assert sorted(
            (hold.batch_id, hold.amount.micros, hold.fence) for hold in self.ledger.open_holds()
        ) == sorted((one.batch, one.amount, one.fence) for one in covers)

    @invariant()
    def every_attempt_stands_where_the_auditor_says(self):
        if not hasattr(self, "ledger"):
            return
        batches = {one.batch for one in self.auditor.covers}
        for batch in batches:
            told = sorted(
                (one.item_key, one.attempt_no, one.state.value, one.cost.micros if one.cost else 0)
                for one in self.ledger.attempts(batch)
            )
            tries = (a for one in self.auditor.covers if one.batch == batch for a in one.tries)
            assert told == sorted((a.item, a.number, a.state, a.cost) for a in tries)


def run_machine(machine, examples, steps=50, **changes):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            **changes,
        ),
    )


def values(clock, zone, limit, project):
    return {
        "clock": clock,
        "time_zone": ZoneInfo(zone),
        "default_limit": Money(limit),
        "project_limit": Money(project),
    }


def memory_machine(kind):
    class Machine(LedgerMachine):
        @staticmethod
        def build(clock, *, zone, limit, project):
            return kind(**values(clock, zone, limit, project))

        def reopen(self, ledger, zone):
            # What is in memory has no other process to outlive.
            ledger._zone = ZoneInfo(zone)
            return ledger

    return Machine


def sql_machine(new_url):
    class Machine(LedgerMachine):
        def begin(self):
            type(self).url = new_url()

        @classmethod
        def build(cls, clock, *, zone, limit, project):
            return open_sql_ledger(cls.url, **values(clock, zone, limit, project))

        def close(self, ledger):
            ledger.close()

    return Machine
