"""Dead runs give back what they hold; what they may have spent stays spent."""

import pytest

from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.errors import LedgerUnavailable
from assetgen_pipeline.domain.generation import ProviderImage
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.stages.recover_holds import RunFate, expire_hold, recover_holds
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.ledger import InMemoryLedger
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, NOW, OWNER
from assetgen_pipeline_tests.ledger_helpers import reserve
from assetgen_pipeline_tests.stage_bench import ONE_IMAGE, Bench, some_requests

EXACT = Money(1_234)


def recover(bench, fate, **options):
    holds = bench.ledger.open_holds()
    return recover_holds(holds, fate_of=lambda _: fate, services=bench.services, **options)


@pytest.mark.parametrize("fate", [RunFate.FINISHED, RunFate.GONE])
def test_a_dead_runs_hold_expires_and_its_money_is_free_again(fate):
    bench = Bench()
    hold = bench.reserve(bench.open(*some_requests(3))).hold

    [finding] = recover(bench, fate)

    assert (finding.hold, finding.fate, finding.released) == (hold, fate, ONE_IMAGE * 3)
    assert bench.ledger.open_holds() == []
    assert bench.ledger.day(OWNER).held == ZERO


@pytest.mark.parametrize("fate", [RunFate.WORKING, RunFate.UNKNOWN])
def test_a_hold_whose_run_is_not_known_to_be_dead_is_left(fate):
    bench = Bench()
    hold = bench.reserve(bench.open()).hold

    [finding] = recover(bench, fate)

    assert finding.released is None
    assert bench.ledger.open_holds() == [hold]


def test_a_hold_of_an_unknown_run_expires_where_the_operator_asks_for_it():
    bench = Bench()
    bench.reserve(bench.open())

    [finding] = recover(bench, RunFate.UNKNOWN, also_unknown=True)

    assert finding.released == ONE_IMAGE
    assert bench.ledger.open_holds() == []


def test_asking_for_unknown_runs_does_not_touch_working_ones():
    bench = Bench()
    bench.reserve(bench.open())

    [finding] = recover(bench, RunFate.WORKING, also_unknown=True)

    assert finding.released is None


def test_a_hold_that_another_run_takes_over_meanwhile_is_left_to_it():
    bench = Bench()
    batch = bench.open()
    read_before = [bench.reserve(batch).hold]
    bench.reserve(batch, run_id="run-2")

    [finding] = recover_holds(read_before, fate_of=lambda _: RunFate.GONE, services=bench.services)

    assert finding.released is None
    assert [hold.run_id for hold in bench.ledger.open_holds()] == ["run-2"]


def test_one_hold_expires_as_all_do():
    bench = Bench()
    hold = bench.reserve(bench.open()).hold

    assert expire_hold(hold, services=bench.services) == ONE_IMAGE

    assert expire_hold(hold, services=bench.services) is None


def test_more_holds_than_are_ended_at_once_are_all_found_in_their_order():
    bench = Bench(limit="1000")
    for number in range(120):
        reserve(bench.ledger, 10, batch=f"{OWNER}.b{number}.0000000{number % 10}", owner=OWNER)
    holds = bench.ledger.open_holds()

    findings = recover_holds(
        holds,
        fate_of=lambda hold: RunFate.WORKING if hold in holds[::3] else RunFate.GONE,
        services=bench.services,
    )

    assert [finding.hold for finding in findings] == holds
    assert [finding.hold for finding in findings if finding.released is None] == holds[::3]
    assert bench.ledger.open_holds() == holds[::3]


def test_recovering_twice_is_recovering_once():
    bench = Bench()
    bench.reserve(bench.open())
    recover(bench, RunFate.GONE)
    before = bench.ledger.day(OWNER)

    assert recover(bench, RunFate.GONE) == []

    assert bench.ledger.day(OWNER) == before
    assert bench.broken() == []


class DyingLedger(InMemoryLedger):
    """Takes intents; the process is gone before it can book a cost."""

    dying = True

    def capture(self, attempt, **booking):
        if self.dying:
            raise LedgerUnavailable("the process died here")
        super().capture(attempt, **booking)


async def test_receipts_are_read_before_anything_is_assumed():
    bench = Bench(ledger=DyingLedger(clock=ManualClock(NOW), default_limit=Money.from_usd("10")))
    answer = ProviderImage(data=b"the bytes", cost=EXACT, cost_basis="usage")
    with pytest.raises(LedgerUnavailable):
        await bench.generate(bench.open(), ScriptedProvider(default=[answer]))
    bench.ledger.dying = False

    recover(bench, RunFate.GONE)

    [attempt] = bench.attempts(BATCH_ID)
    assert (attempt.state, attempt.cost) == (AttemptState.CAPTURED, EXACT)
    assert bench.ledger.day(OWNER).settled == EXACT
