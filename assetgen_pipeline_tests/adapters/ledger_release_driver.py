"""A former release's ledger at work: `ledger_release_driver.py SOURCES URL NOW` prints its verdict.

Runs in a process of its own, whose package is the one that was released.
"""

import sys

sys.path.insert(0, sys.argv[1])

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from assetgen_pipeline.adapters import sql_ledger
from assetgen_pipeline.adapters.system_clock import SystemClock
from assetgen_pipeline.domain.budget import AttemptRequest
from assetgen_pipeline.domain.errors import BudgetRefused, HoldNotOpen
from assetgen_pipeline.domain.money import Money


class SameInstant(SystemClock):
    """The instant at which the present release carries on: no midnight comes between the two."""

    def now(self):
        return datetime.fromisoformat(sys.argv[3]).astimezone(UTC)


def request(item):
    return AttemptRequest(
        item_key=item,
        image_id=f"image-{item}",
        row_number=1,
        scene_id="s1",
        variant=1,
        provider="local",
        model="storyboard",
        lane="stable",
        run_id="run-1",
        ceiling=Money(100),
    )


def main():
    assert sql_ledger.__file__.startswith(sys.argv[1])
    ledger = sql_ledger.SqlLedger(
        sys.argv[2],
        clock=SameInstant(),
        time_zone=ZoneInfo("UTC"),
        default_limit=Money(1000),
    )

    def reserve(batch, amount=300, run="run-1"):
        return ledger.reserve(
            owner="ann", batch_id=batch, run_id=run, amount=Money(amount), price_version="p"
        )

    first = reserve("old-1")
    ledger.capture(
        ledger.intent(first, request("a")), cost=Money(60), cost_basis="flat", image=None
    )
    ledger.void(ledger.intent(first, request("b")), code="x", detail="")
    ledger.assume(ledger.intent(first, request("c")), code="x", detail="")
    assert ledger.settle("old-1") == Money(140)
    fenced_off, kept = reserve("old-2"), reserve("old-2", run="run-2")
    with pytest.raises(HoldNotOpen):
        ledger.intent(fenced_off, request("a"))
    ledger.intent(kept, request("a"))
    with pytest.raises(BudgetRefused) as refused:
        reserve("old-3", amount=2000)
    assert refused.value.headroom == Money(540)
    ledger.set_limit("ann", Money(2000), set_by="op")
    day = ledger.day("ann")
    assert (day.limit, day.held, day.settled) == (Money(2000), Money(300), Money(160))
    assert [hold.batch_id for hold in ledger.open_holds()] == ["old-2"]
    assert not [check for check in ledger.verify() if check.violations]
    ledger.close()
    sys.stdout.write("sound\n")


if __name__ == "__main__":
    main()
