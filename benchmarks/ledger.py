"""What the ledger costs: reservations, calls, recovery, on each engine. JSON lines.

Ratios compare with a bare insert and commit on the same engine in the same run, measured in
turns with the ledger, so that a busy machine slows both. `--engines sqlite,postgres`.
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from assetgen_pipeline.adapters.sql_ledger import open_sql_ledger
from assetgen_pipeline.adapters.sql_ledger_engine import LedgerDatabase
from assetgen_pipeline.adapters.system_clock import SystemClock
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.stages.recover_holds import RunFate, recover_holds
from assetgen_pipeline_tests.ledger_helpers import broken, request, reserve
from assetgen_pipeline_tests.postgres_cluster import new_cluster
from assetgen_pipeline_tests.stage_bench import Bench

LIMIT = 10**11
_BARE = sa.table("bare", sa.column("name"), sa.column("micros"))
OPEN_HOLDS = 1_000


def report(benchmark, **figures):
    print(json.dumps({"benchmark": f"ledger: {benchmark}", **figures}), flush=True)


class Timings:
    """Calls, each timed by the wall and all of them by this process's processor time."""

    def __init__(self, warm_up=50):
        self.warm_up = warm_up
        self.seconds, self.cpu = [], []

    def add(self, call, *arguments):
        cpu, began = time.process_time(), time.perf_counter()
        call(*arguments)
        self.seconds.append(time.perf_counter() - began)
        self.cpu.append(time.process_time() - cpu)

    def figures(self):
        return percentiles(self.seconds[self.warm_up :], self.cpu[self.warm_up :])


def percentiles(seconds, cpu):
    ordered = sorted(seconds)
    return {
        # What other programs on the machine take does not count here.
        "cpu_ms": round(sum(cpu) / len(cpu) * 1000, 3),
        "per_second": round(len(ordered) / sum(ordered)),
        "p50_ms": round(statistics.median(ordered) * 1000, 2),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1000, 2),
        "max_ms": round(ordered[-1] * 1000, 2),
    }


class BareInsert:
    """One row, one commit, on a connection that is handled as the ledger handles its own.

    The same settings, retries, errors and lock file; only the clock is not asked for.
    """

    def __init__(self, url):
        self.database = LedgerDatabase(url)
        self.statement = sa.insert(_BARE)
        create = "CREATE TABLE bare (name TEXT PRIMARY KEY, micros BIGINT)"
        self.database.write(lambda connection: connection.exec_driver_sql(create))

    def add(self, name):
        """Insert and commit; the statement is built once, as the ledger's are."""
        values = {"name": name, "micros": 1}
        self.database.write(lambda connection: connection.execute(self.statement, values))


class PlainInsert(BareInsert):
    """The same without any of that: SQLAlchemy's own transaction, durable all the same."""

    def __init__(self, url):
        self.engine = sa.create_engine(url)
        self.statement = sa.insert(_BARE)
        if url.startswith("sqlite"):
            # As the ledger has it; WAL is the file's already.
            sa.event.listen(
                self.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous = FULL")
            )

    def add(self, name):
        """Insert and commit."""
        with self.engine.begin() as connection:
            connection.execute(self.statement, {"name": f"plain {name}", "micros": 1})


def admission(engine, ledger, url, rounds):
    bare, plain = BareInsert(url), PlainInsert(url)
    inserts, plain_inserts, reservations, settlements = (Timings() for _ in range(4))
    for index in range(rounds + 50):
        name = f"r{index}"
        inserts.add(bare.add, name)
        plain_inserts.add(plain.add, name)
        reservations.add(lambda name=name: reserve(ledger, 300, batch=name))
        settlements.add(ledger.settle, name)
    inserts, reservations = inserts.figures(), reservations.figures()
    plain_inserts = plain_inserts.figures()
    report(
        "reserve, one process",
        engine=engine,
        **reservations,
        bare_insert=inserts,
        ratio_to_bare_insert=round(reservations["per_second"] / inserts["per_second"], 2),
        p50_ratio=round(inserts["p50_ms"] / reservations["p50_ms"], 2),
        plain_insert=plain_inserts,
        p50_ratio_to_plain_insert=round(plain_inserts["p50_ms"] / reservations["p50_ms"], 2),
    )
    report("settle, one process", engine=engine, **settlements.figures())


def calls(engine, ledger, rounds):
    hold = reserve(ledger, rounds * 200, batch="calls")
    timings = Timings()
    for index in range(rounds + 50):
        wanted = request(f"i{index}", 100)

        def one(wanted=wanted):
            token = ledger.intent(hold, wanted)
            ledger.capture(token, cost=Money(90), cost_basis="usage", image=None)

        timings.add(one)
    report("intent and capture of one image", engine=engine, **timings.figures())
    ledger.settle("calls")


def recovery(engine, ledger):
    for index in range(OPEN_HOLDS):
        hold = reserve(ledger, 100, batch=f"ann.open{index}.00000000")
        ledger.intent(hold, request(ceiling=100))
    services = Bench(ledger=ledger).services
    began = time.perf_counter()
    found = recover_holds(ledger.open_holds(), fate_of=lambda _: RunFate.GONE, services=services)
    report(
        "recovery of open holds, a call in flight in each, receipts looked for",
        engine=engine,
        holds=sum(one.released is not None for one in found),
        seconds=round(time.perf_counter() - began, 2),
    )
    began = time.perf_counter()
    violations = len(broken(ledger))
    report(
        "verify",
        engine=engine,
        violations=violations,
        seconds=round(time.perf_counter() - began, 3),
    )


def opened(engine, url):
    """As the wiring opens it: PostgreSQL goes by its own clock."""
    return open_sql_ledger(
        url,
        clock=SystemClock() if engine == "sqlite" else None,
        time_zone=ZoneInfo("UTC"),
        default_limit=Money(LIMIT),
    )


@contextlib.contextmanager
def books(engine):
    if engine == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/ledger.db"
        return
    cluster = new_cluster(durable=True)
    try:
        yield cluster.create_ledger()
    finally:
        cluster.stop()


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--engines", default="sqlite,postgres")
    options.add_argument("--rounds", type=int, default=1_000)
    chosen = options.parse_args()
    for engine in chosen.engines.split(","):
        with books(engine) as url, contextlib.closing(opened(engine, url)) as ledger:
            admission(engine, ledger, url, chosen.rounds)
            calls(engine, ledger, chosen.rounds)
            recovery(engine, ledger)


if __name__ == "__main__":
    main()
