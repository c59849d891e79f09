"""The long form of the ledger's tests, with sizes as arguments; prints its figures as JSON lines.

    python -m assetgen_pipeline_tests.ledger_soak --attempts 100000 --kills 2000

Exit 1 where anything was overspent, lost or broken. The last line sums everything up.
"""

import argparse
import contextlib
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from assetgen_pipeline.adapters.sql_ledger import upgrade_schema
from assetgen_pipeline.testing.ledger import InMemoryLedger
from assetgen_pipeline_tests.ledger_helpers import open_real, reserve
from assetgen_pipeline_tests.ledger_kill import (
    POINTS,
    Provider,
    check_books,
    kill_at,
    lost_charges,
    open_work,
    opened,
    recover,
)
from assetgen_pipeline_tests.ledger_machine import memory_machine, run_machine, sql_machine
from assetgen_pipeline_tests.ledger_race import (
    PRELOADED,
    SIZES,
    Racers,
    equal_holds,
    flat,
    race_cell,
)
from assetgen_pipeline_tests.ledger_random_kills import RandomKills
from assetgen_pipeline_tests.postgres_cluster import require_cluster

# Where nothing went wrong in n tries, the true rate is below 3/n with 95 % confidence.
_RULE_OF_THREE = 3
_IMPORTED = [
    f"assetgen_pipeline_tests.{name}" for name in ("ledger_machine", "ledger_random_kills")
]


class Soak:
    """One run: where its books are, and what it found."""

    def __init__(self, options, folder):
        self.options = options
        self.folder = Path(folder)
        self.number = 0
        self.totals = {"attempts": 0, "overspent": 0, "violations": 0, "falsely_refused": 0}
        self.totals |= {"kills": 0, "kills_in_an_open_hold": 0, "kills_with_a_call_in_flight": 0}
        self.totals |= {"charges": 0, "lost_charges": 0, "failures": 0}

    def url(self, engine, revision="head"):
        self.number += 1
        if engine == "sqlite":
            url = f"sqlite:///{self.folder}/ledger{self.number}.db"
        else:
            cluster = require_cluster()
            url = cluster.url(cluster.create_database())
        upgrade_schema(url, revision=revision)
        return url

    def room(self):
        self.number += 1
        room = self.folder / f"room{self.number}"
        room.mkdir()
        return room

    def say(self, part, **figures):
        print(json.dumps({"soak": part, **figures}), flush=True)  # noqa: T201
        for name, figure in figures.items():
            if name in self.totals:
                self.totals[name] += figure

    @contextlib.contextmanager
    def watched(self, part, **figures):
        """Say how a part went, also when it failed."""
        began, found = time.monotonic(), {"failures": 0}
        try:
            yield found
        except Exception:  # noqa: BLE001 - every part is reported, whatever it met
            traceback.print_exc()
            found["failures"] = 1
        seconds = round(time.monotonic() - began, 1)
        self.say(part, **figures, **found, seconds=seconds)

    def races(self, engine, racers):
        for processes in SIZES:
            for owners in (1, 200):
                cell = {"engine": engine, "processes": processes, "owners": owners}
                with self.watched("race", **cell) as found:
                    tally = race_cell(
                        racers,
                        self.url(engine),
                        processes=processes,
                        owners=owners,
                        attempts=self.options.attempts,
                        seed=self.options.seed,
                    )
                    found.update(tally)
            with self.watched("liveness", engine=engine, processes=processes) as found:
                url, limit, amount = self.url(engine), self.options.attempts * 5, 10
                admitted = flat(
                    racers.run(equal_holds, url, limit, amount, processes=processes, timeout=7200)
                )
                found |= {"admitted": len(admitted), "expected": limit // amount}
                assert len(admitted) == limit // amount

    def named_kills(self, engine):
        for point in POINTS:
            with self.watched("kill", engine=engine, point=point) as found:
                migrates = point.startswith("16")
                room = self.room()
                url = self.url(engine, "0002" if migrates else "head")
                provider, landed = Provider(room), 0
                for turn in range(1 if migrates else self.options.turns):
                    assert kill_at(point, url, room, f"t{turn}")
                    if migrates:
                        upgrade_schema(url)
                    with opened(url) as ledger:
                        landed += open_work(ledger)[0]
                        if migrates:
                            reserve(ledger)
                        found["lost_charges"] = len(self.recovered(ledger, provider))
                        check_books(ledger, provider)
                found |= {"kills": turn + 1, "kills_in_an_open_hold": landed}
                found["charges"] = len(provider.charges())

    def random_kills(self, engine):
        with self.watched("random kills", engine=engine) as found:
            url = self.url(engine)
            with opened(url) as ledger:
                kills = RandomKills(ledger, url, self.room(), seed=self.options.seed)
                found.update(kills.run(self.options.kills))

    @staticmethod
    def recovered(ledger, provider):
        recover(ledger, provider)
        return lost_charges(ledger, provider)

    def models(self):
        examples = self.options.examples
        with self.watched("model", ledger="memory", examples=examples):
            run_machine(memory_machine(InMemoryLedger), examples=examples)
        template = self.folder / "template.db"
        upgrade_schema(f"sqlite:///{template}")

        def new_file():
            self.number += 1
            path = self.folder / f"model{self.number}.db"
            shutil.copyfile(template, path)
            return f"sqlite:///{path}"

        makers = {"sqlite": new_file, "postgres": lambda: require_cluster().create_ledger()}
        for engine in self.options.engines.split(","):
            count = max(1, examples // 20)
            with self.watched("model", ledger=engine, examples=count):
                run_machine(sql_machine(makers[engine]), examples=count)

    def run(self):
        racers = Racers()
        # Each process runs this module's imports again; the server has them ready.
        multiprocessing.set_forkserver_preload([*PRELOADED, *_IMPORTED])
        try:
            for engine in self.options.engines.split(","):
                open_real(self.url(engine), 1).close()
                self.races(engine, racers)
                self.named_kills(engine)
                self.random_kills(engine)
        finally:
            racers.close()
        self.models()
        attempts, kills = self.totals["attempts"], self.totals["kills"]
        print(json.dumps({"soak": "total", **self.totals}), flush=True)  # noqa: T201
        bounds = {
            "true_overspend_rate_below": _RULE_OF_THREE / max(1, attempts),
            "true_loss_rate_per_kill_below": _RULE_OF_THREE / max(1, kills),
        }
        print(json.dumps({"soak": "95 % bounds", **bounds}), flush=True)  # noqa: T201
        bad = ("overspent", "violations", "falsely_refused", "lost_charges", "failures")
        return int(any(self.totals[name] for name in bad))


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--attempts", type=int, default=100_000, help="per cell of the matrix")
    options.add_argument("--kills", type=int, default=2_000, help="at random, per engine")
    options.add_argument("--turns", type=int, default=20, help="at each named point, per engine")
    options.add_argument("--examples", type=int, default=20_000, help="of the model, in memory")
    options.add_argument("--engines", default="sqlite,postgres")
    options.add_argument("--seed", type=int, default=0)
    with tempfile.TemporaryDirectory() as folder:
        return Soak(options.parse_args(), folder).run()


if __name__ == "__main__":
    sys.exit(main())
