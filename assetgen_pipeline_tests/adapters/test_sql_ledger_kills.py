"""kill -9 at named points: every charge of the provider is in the books afterwards."""

import contextlib
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline_tests.ledger_helpers import broken, open_real, paid
from assetgen_pipeline_tests.postgres_cluster import require_cluster

pytestmark = pytest.mark.timeout(300)
BATCHES = ["b0", "b1", "b2"]
VICTIM = Path(__file__).with_name("ledger_victim.py")
POINTS = [
    "before:INSERT INTO hold",
    "after:INSERT INTO hold",
    "after:UPDATE budget_day",
    "commit:INSERT INTO hold",
    "before:INSERT INTO attempt",
    "commit:INSERT INTO attempt",
    "provider:before",
    "provider:after",
    "before:UPDATE attempt",
    "after:INSERT INTO journal",
    "commit:UPDATE attempt",
    "after:closed_us=",
    "commit:closed_us=",
]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    return require_cluster().create_ledger()


def _truth(path):
    if not path.exists():
        return {}
    pairs = (line.split() for line in path.read_text().splitlines())
    return {attempt_id: int(micros) for attempt_id, micros in pairs}


def _recover(ledger):
    for hold in ledger.open_holds():
        ledger.settle(hold.batch_id)


def _check(ledger, charges):
    assert broken(ledger) == []
    _recover(ledger)
    _recover(ledger)
    assert broken(ledger) == []
    books = paid(ledger, BATCHES)
    assert charges.keys() <= books.keys()
    assert all(books[name] >= charges[name] for name in charges)
    for one in ledger.assumed_attempts():
        cost = charges.get(one.attempt_id)
        ledger.reconcile(one.attempt_id, None if cost is None else Money(cost))
    assert paid(ledger, BATCHES) == charges
    day = ledger.day("ann")
    assert (day.held, day.assumed, day.settled) == (ZERO, ZERO, Money(sum(charges.values())))
    assert broken(ledger) == []


@pytest.mark.parametrize("point", POINTS)
def test_no_charge_is_lost_when_killed(url, tmp_path, point):
    truth = tmp_path / "charges"
    ledger = open_real(url, 100_000)
    command = [sys.executable, VICTIM, url, truth, point]
    killed = subprocess.run(command, capture_output=True, timeout=200, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    charges = _truth(truth)
    assert len(charges) >= 3
    _check(ledger, charges)
    ledger.close()


def test_no_charge_is_lost_when_killed_at_any_time(url, tmp_path):
    truth = tmp_path / "charges"
    ledger = open_real(url, 100_000)
    in_flight = 0
    for turn in range(4):
        command = [sys.executable, VICTIM, url, truth, "never:"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        before = len(_truth(truth))
        charges = before + random.Random(turn).randrange(1, 7)
        while process.poll() is None and len(_truth(truth)) < charges:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.005)
        process.kill()
        process.communicate()
        states = [one.state for batch in BATCHES for one in ledger.attempts(batch)]
        in_flight += bool(ledger.open_holds()) or AttemptState.INTENT in states
        _recover(ledger)
    assert in_flight > 0
    _check(ledger, _truth(truth))
    ledger.close()
