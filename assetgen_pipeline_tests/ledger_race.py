"""Many processes on one budget, started together; what each does is decided by its number."""

import itertools
import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor

from assetgen_pipeline.domain.errors import BudgetRefused
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline_tests.ledger_helpers import broken, open_real, request

# One server starts the processes of races and of kills: what it has not loaded, each must.
PRELOADED = ["assetgen_pipeline_tests.ledger_race", "assetgen_pipeline_tests.ledger_kill"]
MOST = 16
SIZES = (1, 4, 16)
MEAN = 100
_barriers = {}


class Racers:
    """Processes that are started once and then begin each race together.

    They come from a server that has loaded the ledger and opened nothing: as fresh as spawned
    ones, and there at once.
    """

    def __init__(self, most=MOST):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        barriers = {size: context.Barrier(size) for size in SIZES if size <= most}
        self.pool = ProcessPoolExecutor(most, context, _enter, (barriers,))

    def run(self, worker, url, *arguments, processes=4, timeout=280):
        races = [
            self.pool.submit(worker, url, (number, processes), *arguments)
            for number in range(processes)
        ]
        return [race.result(timeout=timeout) for race in races]

    def close(self):
        self.pool.shutdown(wait=True, cancel_futures=True)


def _enter(barriers):
    _barriers.update(barriers)


def line_up(processes):
    """Wait for the others; whoever waits takes no second task, so each process runs one."""
    _barriers[processes].wait(250)


def whole_cycles(url, place, cell):
    """Reserve, attempt, settle; amounts at random, so that about half is refused."""
    number, processes = place
    owners, count, limit, seed = cell
    dice = random.Random(f"{seed}/{number}")
    ledger = open_real(url, limit)
    tally = {"attempts": 0, "refused": 0, "falsely_refused": 0, "admitted_micros": 0}
    line_up(processes)
    for index in range(count // processes):
        tally["attempts"] += 1
        amount = dice.randint(1, 2 * MEAN)
        batch = f"b{number}-{index}"
        try:
            hold = ledger.reserve(
                owner=f"owner{dice.randrange(owners)}",
                batch_id=batch,
                run_id="r",
                amount=Money(amount),
                price_version="p",
            )
        except BudgetRefused as refused:
            tally["refused"] += 1
            tally["falsely_refused"] += refused.headroom >= Money(amount)
            continue
        tally["admitted_micros"] += amount
        _spend(ledger, hold, amount, dice)
        if dice.random() < 0.8:
            ledger.settle(batch)
    ledger.close()
    return tally


def _spend(ledger, hold, amount, dice):
    if dice.random() < 0.5:
        return
    token = ledger.intent(hold, request(ceiling=amount))
    end = dice.random()
    if end < 0.1:
        ledger.assume(token, code="x", detail="")
    elif end < 0.15:
        ledger.void(token, code="x", detail="")
    else:
        ledger.capture(token, cost=Money(amount - amount // 9), cost_basis="usage", image=None)


def race_cell(racers, url, *, processes, owners, attempts, seed=0):
    """One cell of the matrix: its tally, and everything that was wrong with the books after it."""
    # About half of the holds come back whole, so half of what is asked for would fit in a limit
    # of a quarter of it.
    limit = max(2 * MEAN, attempts * MEAN // (4 * owners))
    cell = (owners, attempts, limit, seed)
    found = racers.run(whole_cycles, url, cell, processes=processes, timeout=7200)
    tally = {name: sum(one[name] for one in found) for name in found[0]}
    ledger = open_real(url, limit)
    try:
        days = ledger.days()
        tally["overspent"] = sum((day.held + day.settled) > day.limit for day in days)
        tally["violations"] = len(broken(ledger))
    finally:
        ledger.close()
    return tally


def equal_holds(url, place, limit, amount, open_one=open_real):
    """Reserve the same amount again and again; the batches that were let in."""
    number, processes = place
    ledger = open_one(url, limit)
    admitted = []
    line_up(processes)
    for index in range(1 + 2 * limit // amount // processes):
        batch = f"b{number}-{index}"
        try:
            ledger.reserve(
                owner="ann", batch_id=batch, run_id="r", amount=Money(amount), price_version="p"
            )
        except BudgetRefused as refused:
            if refused.headroom >= Money(amount):
                raise AssertionError("refused although it fits") from refused
        else:
            admitted.append(batch)
    ledger.close()
    return admitted


def same_batches(url, place, limit):
    """Reserve the same batches as everybody else; the hold and fence that each call got."""
    number, processes = place
    ledger = open_real(url, limit)
    line_up(processes)
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


def expire_all(url, place, limit):
    """Expire every open hold, as everybody else does; what each call said."""
    _number, processes = place
    ledger = open_real(url, limit)
    holds = ledger.open_holds()
    line_up(processes)
    released = [ledger.expire(hold) for hold in holds]
    ledger.close()
    return [one.micros for one in released if one is not None]


def create(url, place):
    """Open a ledger that nobody has created yet."""
    number, processes = place
    line_up(processes)
    ledger = open_real(url, 100)
    ledger.reserve(
        owner="ann", batch_id=f"b{number}", run_id="r", amount=Money(1), price_version="p"
    )
    ledger.close()


def flat(lists):
    return list(itertools.chain.from_iterable(lists))
