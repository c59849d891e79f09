"""Processes that spend beside one another, each killed at a moment of its own and replaced.

Starting a process takes longer than letting it spend, so several live at once; what one of
them left is looked at, and recovered, while the others go on.
"""

import random
import signal
import threading
import time
from pathlib import Path

from sqlalchemy import text

from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline_tests.ledger_helpers import broken
from assetgen_pipeline_tests.ledger_kill import (
    Provider,
    _work_for_ever,
    check_books,
    recover,
    start,
)

AT_ONCE = 4
_POLL_S = 0.002
_BOOKED = text(
    "SELECT attempt_id, cost_micros FROM attempt"
    " WHERE batch_id >= :first AND batch_id < :last AND cost_micros IS NOT NULL"
)


class Spender:
    """One process and the provider that it pays; killed some time after a few charges."""

    def __init__(self, url, folder, name, seed):
        dice = random.Random(f"kill {seed}")
        self.name = name
        self.folder = Path(folder) / name
        self.folder.mkdir()
        self.provider = Provider(self.folder)
        self.enough = dice.randint(1, 9)
        self.delay = dice.random() / 100
        self.due = None
        self.process = start(_work_for_ever, url, str(self.folder), name, seed)

    def is_due(self):
        """Whether its moment has come; it ended by itself is an error."""
        now = time.monotonic()
        if self.due is None and self.provider.count() >= self.enough:
            self.due = now + self.delay
        assert self.process.is_alive(), f"{self.name} ended with {self.process.exitcode}"
        return self.due is not None and now >= self.due

    def kill(self):
        self.process.kill()
        self.process.join()
        assert self.process.exitcode == -signal.SIGKILL
        self.process.close()


class RandomKills:
    """Kills on one ledger, and what they found."""

    def __init__(self, ledger, url, folder, *, seed=0, at_once=AT_ONCE):
        self.ledger, self.url, self.folder = ledger, url, Path(folder)
        self.seed, self.at_once = seed, at_once
        self.started = 0
        self.pause = threading.Event()
        self.providers = []
        self.found = dict.fromkeys(
            ("kills", "kills_in_an_open_hold", "kills_with_a_call_in_flight", "lost_charges"), 0
        )

    def run(self, kills):
        """Kill so many, recover after each, and reconcile in the end."""
        spenders = [self._start() for _ in range(min(self.at_once, kills))]
        try:
            while spenders:
                due = [one for one in spenders if one.is_due()]
                for one in due:
                    spenders.remove(one)
                    self._end(one)
                    if self.started < kills:
                        spenders.append(self._start())
                if not due:
                    self.pause.wait(_POLL_S)
        finally:
            for one in spenders:
                one.process.kill()
        self.found["charges"] = len(self.charges())
        self.found["violations"] = len(broken(self.ledger))
        check_books(self.ledger, self)
        return self.found

    def _start(self):
        seed = self.seed + self.started
        self.started += 1
        return Spender(self.url, self.folder, f"t{self.started}", seed)

    def _end(self, spender):
        spender.kill()
        holds = [
            hold
            for hold in self.ledger.open_holds()
            if hold.batch_id.startswith(f"{spender.name}-")
        ]
        states = [one.state for hold in holds for one in self.ledger.attempts(hold.batch_id)]
        self.found["kills"] += 1
        self.found["kills_in_an_open_hold"] += bool(holds)
        self.found["kills_with_a_call_in_flight"] += AttemptState.INTENT in states
        recover(self.ledger, spender.provider, holds)
        span = {"first": f"{spender.name}-", "last": f"{spender.name}."}
        booked = dict(
            self.ledger._database.read(lambda c: [tuple(row) for row in c.execute(_BOOKED, span)])
        )
        self.found["lost_charges"] += sum(
            booked.get(name, -1) < micros for name, micros in spender.provider.charges().items()
        )
        self.providers.append(spender.provider)

    # What all of their providers say, for `check_books`.

    def charges(self):
        return {name: micros for one in self.providers for name, micros in one.charges().items()}

    def receipt(self, attempt_id):
        found = (one.receipt(attempt_id) for one in self.providers)
        return next((micros for micros in found if micros is not None), None)
