"""Many processes on one budget: never a micro too much, never a refusal too many."""

import itertools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from assetgen_pipeline.adapters import sql_ledger_days
from assetgen_pipeline.domain.errors import BudgetRefused
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline_tests.ledger_helpers import broken, open_real, paid, request
from assetgen_pipeline_tests.postgres_cluster import require_cluster

PROCESSES = 4
BATCHES = 25
pytestmark = pytest.mark.timeout(300)
_barrier = None


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    return require_cluster().create_ledger()


class Racers:
    """Processes that are started once and then begin each race together."""

    def __init__(self):
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(PROCESSES, context, _enter, (context.Barrier(PROCESSES),))

    def run(self, worker, url, *arguments):
        races = [self.pool.submit(worker, url, number, *arguments) for number in range(PROCESSES)]
        return [race.result(timeout=200) for race in races]


def _enter(barrier):
    global _barrier  # noqa: PLW0603
    _barrier = barrier


def _line_up():
    # Whoever waits here takes no second task, so each process runs one.
    _barrier.wait(180)


@pytest.fixture(scope="module")
def racers():
    racers = Racers()
    yield racers
    racers.pool.shutdown(wait=True, cancel_futures=True)


@pytest.fixture
def watch(url):
    """Open ledgers that are closed however the test ends."""
    opened = []

    def open_one(limit, **settings):
        opened.append(open_real(url, limit, **settings))
        return opened[-1]

    yield open_one
    for ledger in opened:
        ledger.close()


def _reserve_equal(url, number, limit, amount):
    admitted = []
    with_ledger = open_real(url, limit)
    _line_up()
    for index in range(BATCHES):
        batch = f"b{number}-{index}"
        try:
            with_ledger.reserve(
                owner="ann", batch_id=batch, run_id="r", amount=Money(amount), price_version="p"
            )
        except BudgetRefused as refused:
            if refused.headroom >= Money(amount):
                raise AssertionError("refused although it fits") from refused
        else:
            admitted.append(batch)
    with_ledger.close()
    return admitted


def test_equal_holds_fill_the_limit_exactly(racers, watch, url):
    limit, amount = 1040, 20
    admitted = list(itertools.chain.from_iterable(racers.run(_reserve_equal, url, limit, amount)))
    assert len(admitted) == limit // amount
    ledger = watch(limit)
    assert ledger.day("ann").held == Money(1040)
    assert broken(ledger) == []


def _whole_cycle(url, number, limit):
    ledger = open_real(url, limit, project=limit * 3 // 2)
    refused = 0
    _line_up()
    for index in range(BATCHES):
        owner, batch = f"owner{index % 2}", f"b{number}-{index}"
        amount = 17 + 13 * ((number * 7 + index * 5) % 11)
        try:
            hold = ledger.reserve(
                owner=owner, batch_id=batch, run_id="r", amount=Money(amount), price_version="p"
            )
            token = ledger.intent(hold, request(ceiling=amount + index % 3))
        except BudgetRefused:
            refused += 1
            continue
        if index % 4 == 0:
            ledger.assume(token, code="x", detail="")
        elif index % 4 == 1:
            ledger.void(token, code="x", detail="")
        else:
            ledger.capture(token, cost=Money(amount // 2), cost_basis="usage", image=None)
        if index % 5:
            ledger.settle(batch)
    ledger.close()
    return refused


def test_whole_cycles_never_pass_a_limit_and_the_books_agree(racers, watch, url):
    limit = 1200
    refused = sum(racers.run(_whole_cycle, url, limit))
    ledger = watch(limit, project=limit * 3 // 2)
    assert 10 < refused < PROCESSES * BATCHES - 10
    days = [ledger.day(owner) for owner in ("owner0", "owner1")]
    assert all((day.held + day.settled) <= day.limit for day in days)
    assert sum((day.held + day.settled).micros for day in days) <= limit * 3 // 2
    batches = [f"b{number}-{index}" for number in range(PROCESSES) for index in range(BATCHES)]
    assert sum(paid(ledger, batches).values()) == sum(day.settled.micros for day in days)
    assert broken(ledger) == []


def _reserve_same(url, number, limit):
    ledger = open_real(url, limit)
    _line_up()
    holds = [
        ledger.reserve(
            owner="ann",
            batch_id=f"b{index}",
            run_id=f"r{number}",
            amount=Money(10),
            price_version="p",
        )
        for index in range(8)
    ]
    ledger.close()
    return [(hold.hold_id, hold.fence) for hold in holds]


def test_one_batch_reserved_by_all_has_one_hold_and_one_fence_each(racers, watch, url):
    seen = list(itertools.chain.from_iterable(racers.run(_reserve_same, url, 80)))
    assert len(seen) == len(set(seen)) == PROCESSES * 8
    ledger = watch(80)
    assert len({hold_id for hold_id, _ in seen}) == len(ledger.open_holds()) == 8
    assert {hold.fence for hold in ledger.open_holds()} == {PROCESSES}
    assert ledger.day("ann").held == Money(80)
    assert broken(ledger) == []


def _create(url, number):
    _line_up()
    ledger = open_real(url, 100)
    ledger.reserve(
        owner="ann", batch_id=f"b{number}", run_id="r", amount=Money(1), price_version="p"
    )
    ledger.close()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_processes_that_create_the_file_together_share_one_ledger(racers, watch, url):
    racers.run(_create, url)
    ledger = watch(100)
    assert len(ledger.open_holds()) == PROCESSES


def _reserve_unguarded(url, number, limit, amount):
    # The seeded bug: look first, then take without a guard, and without the table's own check.
    original = sql_ledger_days.DayBook._move

    def checked_before(book, connection, scope, day, entry, *, guarded):
        row = book.row(connection, scope, day)
        if guarded and row.held_micros + row.settled_micros + entry.micros > row.limit_micros:
            return None
        connection.exec_driver_sql("SELECT pg_sleep(0.01)")
        return original(book, connection, scope, day, entry, guarded=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sql_ledger_days.DayBook, "_move", checked_before)
        # Its lock would hide the bug.
        patch.setattr(sql_ledger_days.DayBook, "apply_limits", lambda *_: None)
        return _reserve_equal(url, number, limit, amount)


@pytest.mark.postgres
@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_the_harness_can_see_an_overspend(racers, watch, url):
    ledger = watch(1040)
    ledger._database.write(
        lambda connection: connection.exec_driver_sql(
            "ALTER TABLE budget_day DROP CONSTRAINT never_exceed"
        )
    )
    admitted = list(itertools.chain.from_iterable(racers.run(_reserve_unguarded, url, 1040, 20)))
    assert len(admitted) > 52
    assert "I1 owner:ann" in broken(ledger)[0]
