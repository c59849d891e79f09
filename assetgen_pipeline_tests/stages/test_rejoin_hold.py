"""The hold of a run that began in the middle."""

import pytest

from assetgen_pipeline.domain.errors import BatchBusy, BatchNotFound, BudgetRefused, HoldNotOpen
from assetgen_pipeline.domain.money import ZERO
from assetgen_pipeline.stages.orders import order_rows
from assetgen_pipeline.stages.rejoin_hold import hold_of_run
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, OWNER, RUN_ID
from assetgen_pipeline_tests.stage_bench import CATALOGUE, ONE_IMAGE, Bench, some_requests


async def a_closed_batch(bench, *, rows=3, delivered=1):
    """Some images were made, then the run failed and its batch was closed."""
    batch = bench.open(*some_requests(rows))
    held = bench.reserve(batch)
    images = bench.plan(batch)
    await bench.shard(images[:delivered], ScriptedProvider(), hold=held.hold)
    bench.ledger.settle(BATCH_ID)
    return batch, held


def rejoin(bench, held, *, run_id="run-2", see_alone=lambda: None):
    return hold_of_run(
        held,
        run_id=run_id,
        catalogue=CATALOGUE,
        services=bench.services,
        worker="",
        see_alone=see_alone,
    )


async def test_a_re_execution_reserves_what_is_missing_and_no_more():
    bench = Bench()
    _, held = await a_closed_batch(bench)

    again = rejoin(bench, held)

    assert again.hold.amount == ONE_IMAGE * 2
    assert (again.run_id, again.lane, again.model) == ("run-2", held.lane, held.model)
    assert bench.ledger.day(OWNER).held == ONE_IMAGE * 2


async def test_all_shards_of_a_re_execution_share_one_hold():
    bench = Bench()
    _, held = await a_closed_batch(bench)

    first, second = rejoin(bench, held), rejoin(bench, held)

    assert first == second
    assert len(bench.ledger.open_holds()) == 1


async def test_a_further_re_execution_reserves_for_itself():
    bench = Bench()
    _, held = await a_closed_batch(bench)
    first = rejoin(bench, held)
    bench.ledger.settle(BATCH_ID)

    second = rejoin(bench, held, run_id="run-3")

    assert second.hold.hold_id != first.hold.hold_id


async def test_a_run_that_was_closed_as_dead_does_not_begin_to_pay_again():
    bench = Bench()
    batch, held = await a_closed_batch(bench)

    same = rejoin(bench, held, run_id=RUN_ID)

    assert same == held
    with pytest.raises(HoldNotOpen):
        await bench.generate(batch, hold=same.hold)
    assert bench.ledger.day(OWNER).held == ZERO


async def test_a_day_without_room_refuses_a_re_execution():
    bench = Bench(limit="0.006")
    _, held = await a_closed_batch(bench)
    bench.reserve(bench.open(*some_requests(2), batch_id=f"{OWNER}.other.01234567"))

    with pytest.raises(BudgetRefused):
        rejoin(bench, held)


async def test_beside_another_run_nothing_is_reserved():
    bench = Bench()
    _, held = await a_closed_batch(bench)

    def refuse():
        raise BatchBusy("another run works on it")

    with pytest.raises(BatchBusy):
        rejoin(bench, held, see_alone=refuse)
    assert bench.ledger.open_holds() == []


async def test_a_re_execution_of_some_rows_reserves_for_these():
    bench = Bench()
    _, held = await a_closed_batch(bench)
    order_rows(BATCH_ID, ["S3"], by="ann", others=None, store=bench.store, clock=bench.clock)

    again = rejoin(bench, held)

    assert again.hold.amount == ONE_IMAGE


async def test_two_shards_that_reserve_at_once_end_with_the_newer_fence():
    class Racing(InMemoryObjectStore):
        """Another shard of the run writes its hold just before ours is written."""

        def create(self, name, *args, **kwargs):
            if "rejoined_hold" in name:
                super().create(name, *args, **kwargs)
            return super().create(name, *args, **kwargs)

    bench = Bench(store=Racing(BUCKET))
    _, held = await a_closed_batch(bench)

    mine = rejoin(bench, held)

    assert rejoin(bench, held) == mine


async def test_without_the_batchs_requests_nothing_is_reserved():
    bench = Bench()
    _, held = await a_closed_batch(bench)
    bench.store.delete(f"artifacts/{BATCH_ID}/batch_requests.json")

    with pytest.raises(BatchNotFound):
        rejoin(bench, held)
