"""Two PostgreSQL sessions, stepped by hand through every pair of operations: no deadlock, no drift.

The first session stops before each statement that writes or locks, with its transaction open;
the second then runs as far as it can.
"""

import contextlib
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from assetgen_pipeline.domain.errors import BudgetRefused, HoldNotOpen, IdempotencyConflict
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline_tests.ledger_helpers import (
    broken,
    capture,
    on_statements,
    open_real,
    request,
    reserve,
)
from assetgen_pipeline_tests.postgres_cluster import require_cluster

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]
LIMIT = 10**6
DEADLINE_S = 250
_LOCKS = ("FOR UPDATE", "FOR NO KEY UPDATE")
LOST_THE_RACE = (HoldNotOpen, IdempotencyConflict, BudgetRefused)


class Scene:
    """One owner with an open hold and a call in flight."""

    def __init__(self, ledger, number):
        self.owner, self.name = f"o{number}", f"b{number}"
        self.hold = reserve(ledger, 300, batch=self.name, owner=self.owner)
        self.token = ledger.intent(self.hold, request("i1", 100))
        self.other = reserve(ledger, 10, batch=f"{self.name}-other", owner=self.owner)


OPERATIONS = {
    "reserve": lambda ledger, s: reserve(ledger, 50, batch=f"{s.name}-{id(ledger)}", owner=s.owner),
    "same": lambda ledger, s: reserve(ledger, 50, batch=f"{s.name}-same", owner=s.owner),
    # What is refused locks as well, to say what the refusal rests on.
    "refused": lambda ledger, s: reserve(
        ledger, LIMIT, batch=f"{s.name}-big-{id(ledger)}", owner=s.owner
    ),
    "take over": lambda ledger, s: reserve(ledger, 350, batch=s.name, owner=s.owner, run="r2"),
    "intent": lambda ledger, s: ledger.intent(s.hold, request("i2", 100)),
    "extend": lambda ledger, s: ledger.intent(s.hold, request("i3", 500)),
    "capture": lambda ledger, s: capture(ledger, s.token, 60),
    "close": lambda ledger, s: ledger.settle(s.name),
    "expire": lambda ledger, s: ledger.expire(s.hold),
    "expire all": lambda ledger, s: ledger.expire_all([s.hold, s.other]),
    "limit": lambda ledger, s: ledger.set_limit(s.owner, Money(LIMIT), set_by="op"),
}


class Stepper:
    """Stops a session before its n-th statement that writes or locks."""

    def __init__(self, ledger):
        self.stop_before, self.seen = None, 0
        self.stopped, self.go_on = threading.Event(), threading.Event()
        self.deadlocks = []
        on_statements(ledger._database.engine(), before=self._before)
        self.write_once = ledger._database._write_once
        ledger._database._write_once = self._write_once

    def arm(self, stop_before):
        self.stop_before, self.seen = stop_before, 0
        self.stopped.clear()
        self.go_on.clear()

    def _before(self, _connection, statement):
        if not statement.startswith(("INSERT", "UPDATE")) and not statement.endswith(_LOCKS):
            return
        self.seen += 1
        if self.seen == self.stop_before:
            self.stopped.set()
            assert self.go_on.wait(DEADLINE_S)

    def _write_once(self, work):
        try:
            return self.write_once(work)
        except DBAPIError as error:
            if error.orig.sqlstate == "40P01":
                self.deadlocks.append(str(error.orig))
            raise


class Sessions:
    """Two sessions and an observer who sees when one waits for the other."""

    def __init__(self):
        cluster = require_cluster()
        url = cluster.create_ledger()
        self.first, self.second = open_real(url, LIMIT), open_real(url, LIMIT)
        self.steps, self.others = Stepper(self.first), Stepper(self.second)
        self.observer = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
        self.pool = ThreadPoolExecutor(2)
        self.numbers = itertools.count()

    def close(self):
        self.pool.shutdown()
        self.observer.close()
        self.first.close()
        self.second.close()

    def one_waits(self):
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        return self.observer.execute(waiting).fetchone()[0] > 0

    def step(self, first, second, stop_before):
        """Run both; whether the first really stopped there."""
        scene = Scene(self.second, next(self.numbers))
        self.steps.arm(stop_before)
        leading = self.pool.submit(self._run, first, self.first, scene)
        while not self.steps.stopped.wait(0.005):
            if leading.done():
                leading.result()
                return False
        following = self.pool.submit(self._run, second, self.second, scene)
        while not following.done() and not self.one_waits():
            with contextlib.suppress(TimeoutError):
                following.result(0.005)
        self.steps.go_on.set()
        leading.result(DEADLINE_S)
        following.result(DEADLINE_S)
        return True

    @staticmethod
    def _run(operation, ledger, scene):
        with contextlib.suppress(*LOST_THE_RACE):
            OPERATIONS[operation](ledger, scene)


@pytest.fixture(scope="module")
def sessions():
    opened = Sessions()
    yield opened
    opened.close()


@pytest.mark.parametrize("second", OPERATIONS)
@pytest.mark.parametrize("first", OPERATIONS)
def test_no_order_of_two_operations_deadlocks_or_unbalances_the_books(sessions, first, second):
    steps = itertools.takewhile(
        lambda number: sessions.step(first, second, number), itertools.count(1)
    )
    assert len(list(steps)) >= 2
    assert (sessions.steps.deadlocks, sessions.others.deadlocks) == ([], [])
    assert broken(sessions.first) == []


def test_money_that_is_freed_between_a_refused_guard_and_its_lock_is_taken(sessions):
    sessions.steps.arm(None)
    taken = reserve(sessions.second, LIMIT, batch="freed-1", owner="freed")
    freed = []

    def free(_connection, statement):
        if statement.startswith("SELECT") and statement.endswith("FOR NO KEY UPDATE") and not freed:
            freed.append(sessions.second.settle(taken.batch_id))

    on_statements(sessions.first._database.engine(), before=free)
    held = reserve(sessions.first, LIMIT, batch="freed-2", owner="freed")

    assert freed == [held.amount]
    assert sessions.first.day("freed").held == held.amount
    assert broken(sessions.first) == []
    sessions.first.settle("freed-2")


def test_the_harness_sees_a_deadlock(sessions):
    scene = Scene(sessions.second, "deadlock")
    other = reserve(sessions.second, 1, batch="deadlock-2", owner=scene.owner)
    meeting = threading.Barrier(2)

    def lock_both(ledger, holds):
        def work(connection):
            for index, hold in enumerate(holds):
                connection.exec_driver_sql(
                    f"SELECT 1 FROM hold WHERE hold_id = '{hold.hold_id}' FOR UPDATE"
                )
                if index == 0 and not stepper.deadlocks:
                    with contextlib.suppress(threading.BrokenBarrierError):
                        meeting.wait(DEADLINE_S)

        stepper = sessions.steps if ledger is sessions.first else sessions.others
        ledger._database.write(work)

    sessions.steps.arm(None)
    pairs = [(sessions.first, [scene.hold, other]), (sessions.second, [other, scene.hold])]
    for done in [sessions.pool.submit(lock_both, *pair) for pair in pairs]:
        done.result(DEADLINE_S)
    found = sessions.steps.deadlocks + sessions.others.deadlocks
    assert found
    sessions.steps.deadlocks.clear()
    sessions.others.deadlocks.clear()
