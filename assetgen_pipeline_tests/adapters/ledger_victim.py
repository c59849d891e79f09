"""A process that spends money and is killed at a named point: `ledger_victim.py URL TRUTH POINT`.

The provider writes each charge to a file and syncs it before it answers: what it says is true
however the ledger ends.
"""

import os
import signal
import sys

from sqlalchemy import event

from assetgen_pipeline.domain.errors import BudgetRefused
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline_tests.ledger_helpers import open_real, request


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def arm(ledger, point):
    """Die when the ledger reaches a point of SQL: `<what>:<text in the statement>`."""
    what, _, fragment = point.partition(":")
    engine = ledger._database.engine()

    def before(_connection, _cursor, statement, *_):
        if what == "before" and fragment in statement:
            die()

    def after(_connection, _cursor, statement, *_):
        if fragment in statement:
            if what == "after":
                die()
            if what == "commit":
                event.listen(engine, "commit", die)

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)


def charge(path, attempt_id, micros, point):
    if point == "provider:before":
        die()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(file, f"{attempt_id} {micros}\n".encode())
    os.fsync(file)
    os.close(file)
    if point == "provider:after":
        die()


def main(url, truth, point):
    ledger = open_real(url, 100_000)
    for index in range(3):
        if index == 1:
            # The first batch is whole; the second one meets the fault.
            arm(ledger, point)
        batch = f"b{index}"
        try:
            hold = ledger.reserve(
                owner="ann", batch_id=batch, run_id="r", amount=Money(300), price_version="p"
            )
            for item in range(3):
                token = ledger.intent(hold, request(f"i{item}", 100))
                charge(truth, token.attempt_id, 90 + item, point if (index, item) == (1, 1) else "")
                ledger.capture(token, cost=Money(90 + item), cost_basis="usage", image=None)
        except BudgetRefused:
            sys.exit(3)
        ledger.settle(batch)
    sys.exit(4)


if __name__ == "__main__":
    main(*sys.argv[1:])
