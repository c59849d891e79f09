"""Processes that spend money and are killed; a provider whose charges are on disk is the truth.

Each charge is synced before the provider answers, so what it says is true however the ledger
ends. A receipt is a file that appears whole, as an uploaded object does.
"""

import contextlib
import json
import multiprocessing
import os
import random
import signal
import threading
from pathlib import Path

from sqlalchemy import event, text

from assetgen_pipeline.adapters.sql_ledger import upgrade_schema
from assetgen_pipeline.adapters.sql_ledger_engine import LedgerDatabase
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.errors import LedgerUnavailable
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline_tests.ledger_helpers import broken, on_statements, open_real, request
from assetgen_pipeline_tests.ledger_race import PRELOADED

LIMIT = 10**11
CEILING = 100
# stage, moment, text of the statement; numbers are those of the specification's list.
POINTS = {
    "1 before the reservation begins": ("reserve", "begin", ""),
    "2 after the hold is inserted": ("reserve", "after", "INSERT INTO hold"),
    "3 after the day is updated": ("reserve", "after", "UPDATE budget_day"),
    "4 before the reservation commits": ("reserve", "commit", "INSERT INTO hold"),
    "5 after it committed, before it returns": ("reserve", "done", "INSERT INTO hold"),
    "6 before the intent commits": ("intent", "commit", "INSERT INTO attempt"),
    "7 after it committed, before anything is sent": ("intent", "done", "INSERT INTO attempt"),
    "8 the request is sent, nothing is answered": ("provider", "charged", ""),
    "9 the answer is read, no receipt yet": ("provider", "answered", ""),
    "10 the receipt is written, not yet in place": ("receipt", "written", ""),
    "11 the receipt is in place, nothing captured": ("receipt", "renamed", ""),
    "12a inside the capture, before the attempt": ("capture", "before", "UPDATE attempt"),
    "12b inside the capture, after the journal": ("capture", "after", "INSERT INTO journal"),
    "12c before the capture commits": ("capture", "commit", "UPDATE attempt"),
    "13 after the capture committed": ("capture", "done", "UPDATE attempt"),
    "14a before the hold closes": ("close", "before", "closed_us="),
    "14b inside the close": ("close", "after", "closed_us="),
    "14c before the close commits": ("close", "commit", "closed_us="),
    "14d after the close committed": ("close", "done", "closed_us="),
    "15a inside the expiry, an attempt assumed": ("expire", "after", "UPDATE attempt"),
    "15b inside the expiry, the hold ended": ("expire", "after", "closed_us="),
    "15c before the expiry commits": ("expire", "commit", "closed_us="),
    "16a inside a migration": ("migrate", "after", "CREATE INDEX"),
    "16b before a migration commits": ("migrate", "commit", "CREATE INDEX"),
}
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(PRELOADED)


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def arm(engine, moment, fragment):
    """Die when the ledger comes to a moment of SQL."""

    def before(_connection, statement):
        if moment == "before" and fragment in statement:
            die()

    def after(_connection, statement):
        if fragment not in statement:
            return
        if moment == "after":
            die()
        if moment == "commit":
            event.listen(engine, "commit", die)
        if moment == "done":
            event.listen(engine, "checkin", die)

    if moment == "begin":
        event.listen(engine, "begin", die)
    on_statements(engine, before=before, after=after)


class Provider:
    """Charges, and says so on disk before it answers."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def charge(self, attempt_id, micros, die_when=""):
        file = os.open(self.folder / "charges", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(file, f"{attempt_id} {micros}\n".encode())
        os.fsync(file)
        os.close(file)
        if die_when == "charged":
            die()

    def charges(self):
        path = self.folder / "charges"
        if not path.exists():
            return {}
        pairs = (line.split() for line in path.read_text().splitlines())
        return {attempt_id: int(micros) for attempt_id, micros in pairs}

    def count(self):
        """How many charges there are, which may be while one is written."""
        path = self.folder / "charges"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def keep_receipt(self, attempt_id, micros, die_when=""):
        partial = self.folder / f"{attempt_id}.partial"
        with partial.open("w") as file:
            json.dump({"cost_micros": micros}, file)
            file.flush()
            os.fsync(file.fileno())
        if die_when == "written":
            die()
        partial.rename(self.folder / f"{attempt_id}.json")
        if die_when == "renamed":
            die()

    def receipt(self, attempt_id):
        path = self.folder / f"{attempt_id}.json"
        return json.loads(path.read_text())["cost_micros"] if path.exists() else None


class Victim:
    """One process's work: batches of three items, one of them meeting the fault."""

    def __init__(self, url, folder, point):
        self.stage, self.moment, self.fragment = point
        self.provider = Provider(folder)
        self.url = url
        self.ledger = open_real(url, LIMIT)

    def enter(self, stage, *, armed):
        if armed and stage == self.stage and stage not in ("provider", "receipt"):
            arm(self.ledger._database.engine(), self.moment, self.fragment)

    def moment_of(self, stage, *, armed):
        return self.moment if armed and stage == self.stage else ""

    def batch(self, name, *, armed):
        self.enter("reserve", armed=armed)
        hold = self.ledger.reserve(
            owner="ann", batch_id=name, run_id="r", amount=Money(3 * CEILING), price_version="p"
        )
        for item in range(3):
            self.item(hold, item, armed=armed and item == 1)
        self.enter("close", armed=armed)
        if armed and self.stage == "expire":
            self.enter("expire", armed=True)
            self.ledger.expire(hold)
        self.ledger.settle(name)

    def item(self, hold, item, *, armed):
        micros = 90 + item
        self.enter("intent", armed=armed)
        token = self.ledger.intent(hold, request(f"i{item}", CEILING))
        self.provider.charge(token.attempt_id, micros, self.moment_of("provider", armed=armed))
        if self.moment_of("provider", armed=armed) == "answered":
            die()
        if armed and self.stage == "expire":
            # Leaves a call in flight for the expiry.
            return
        self.provider.keep_receipt(token.attempt_id, micros, self.moment_of("receipt", armed=armed))
        self.enter("capture", armed=armed)
        self.ledger.capture(token, cost=Money(micros), cost_basis="usage", image=None)


def _work(url, folder, point, prefix):
    if point[0] == "migrate":
        _migrate(url, point)
    victim = Victim(url, folder, point)
    for index in range(3):
        victim.batch(f"{prefix}-{index}", armed=index == 1)
    os._exit(4)


def _migrate(url, point):
    real = LedgerDatabase.write

    def write(database, work):
        arm(database.engine(), *point[1:])
        return real(database, work)

    LedgerDatabase.write = write
    upgrade_schema(url)


def _work_for_ever(url, folder, prefix, seed):
    """Spend until killed, or until the ledger is gone for good."""
    dice = random.Random(seed)
    victim = Victim(url, folder, ("never", "", ""))
    pause = threading.Event()
    number = 0
    while True:
        try:
            hold = victim.ledger.reserve(
                owner="ann",
                batch_id=f"{prefix}-{number}",
                run_id="r",
                amount=Money(3 * CEILING),
                price_version="p",
            )
            for item in range(dice.randint(1, 4)):
                token = victim.ledger.intent(hold, request(f"i{item}", CEILING))
                micros = dice.randint(1, CEILING)
                victim.provider.charge(token.attempt_id, micros)
                pause.wait(dice.random() / 200)
                if dice.random() < 0.7:
                    victim.provider.keep_receipt(token.attempt_id, micros)
                victim.ledger.capture(token, cost=Money(micros), cost_basis="usage", image=None)
            if dice.random() < 0.9:
                victim.ledger.settle(f"{prefix}-{number}")
        except LedgerUnavailable:
            os._exit(5)
        number += 1


def start(target, *arguments):
    process = _context.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def kill_at(point, url, folder, prefix):
    """Run a victim to a named point; whether it died there."""
    process = start(_work, url, str(folder), POINTS[point], prefix)
    process.join()
    return process.exitcode == -signal.SIGKILL


def open_work(ledger):
    """Whether a hold is open, and whether a call is in flight."""
    holds = ledger.open_holds()
    states = [one.state for hold in holds for one in ledger.attempts(hold.batch_id)]
    return bool(holds), AttemptState.INTENT in states


def recover(ledger, provider, holds=None):
    """What recovery does: book receipts, then expire; how many holds ended."""
    holds = ledger.open_holds() if holds is None else holds
    for hold in holds:
        for one in ledger.attempts(hold.batch_id):
            micros = provider.receipt(one.attempt_id)
            if one.state in (AttemptState.INTENT, AttemptState.ASSUMED) and micros is not None:
                ledger.capture(one, cost=Money(micros), cost_basis="usage", image=None)
    return sum(released is not None for released in ledger.expire_all(holds))


def booked(ledger):
    """What the ledger counts as spent, by attempt."""
    statement = text("SELECT attempt_id, cost_micros FROM attempt WHERE cost_micros IS NOT NULL")
    return dict(ledger._database.read(lambda c: [tuple(row) for row in c.execute(statement)]))


def lost_charges(ledger, provider):
    """Charges that the ledger does not know, or knows as less than they were."""
    books = booked(ledger)
    return [name for name, micros in provider.charges().items() if books.get(name, -1) < micros]


def check_books(ledger, provider):
    """Nothing is lost; recovered twice is recovered once; reconciled, all agrees to the micro."""
    assert broken(ledger) == []
    recover(ledger, provider)
    once = booked(ledger)
    assert recover(ledger, provider) == 0
    assert booked(ledger) == once
    assert lost_charges(ledger, provider) == []
    assert sum(once.values()) >= sum(provider.charges().values())
    charges = provider.charges()
    for one in ledger.assumed_attempts():
        micros = charges.get(one.attempt_id)
        ledger.reconcile(one.attempt_id, None if micros is None else Money(micros))
    assert booked(ledger) == charges
    day = ledger.day("ann")
    assert (day.held.micros, day.assumed.micros) == (0, 0)
    assert broken(ledger) == []


@contextlib.contextmanager
def opened(url):
    ledger = open_real(url, LIMIT)
    try:
        yield ledger
    finally:
        ledger.close()
