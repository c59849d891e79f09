"""A run in the queue of a pool: it rests, hears orders and signals, and begins when a slot is free."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from assetgen_pipeline.defs import slot_queue
from assetgen_pipeline.defs.assets import owner_tags
from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.domain.pauses import Pause
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.orders import order_cancel
from assetgen_pipeline.stages.pausing import change_pauses
from assetgen_pipeline.stages.stage_progress import read_progress
from assetgen_pipeline.stages.waiting_batches import read_waiting
from assetgen_pipeline_tests.builders import BATCH_ID, NOW
from assetgen_pipeline_tests.fake_deployment import FakeDeployment, add_run
from assetgen_pipeline_tests.processes import until

ROOT = Path(__file__).parents[2]
POOLS = ["generation", "reference_fetch"]
HOLDER = "a-run-of-somebody-else"
OTHER = "ann.other.00000002"
CSV = b"scene_id,prompt,reference_urls\n" + b"".join(
    b"S%d,scene %d,https://reference.test/%d.png\n" % (n, n, n) for n in range(3)
)


@pytest.fixture
def instance(tmp_path):
    (tmp_path / "dagster.yaml").write_bytes((ROOT / "dagster.yaml").read_bytes())
    with dg.DagsterInstance.from_config(str(tmp_path)) as opened:
        yield opened


class Bed:
    """A batch whose steps of one pool find its only slot taken."""

    def __init__(self, instance, pool):
        self.instance, self.pool = instance, pool
        self.fakes = FakeDeployment(instance, shard_rows=1, reference_chunk=1)
        self.fakes.upload(CSV)
        self.slots = instance.event_log_storage
        for name in POOLS:
            self.slots.set_concurrency_slots(name, 1)
        assert self.slots.claim_concurrency_slot(pool, HOLDER, "a_step").is_claimed

    def run(self, *orders):
        """Run the batch; once it stands in the queue, give the orders."""

        def give():
            try:
                until(self.stands_in_line)
                for order in orders:
                    order(self)
            except BaseException:
                self.free()
                raise

        self.instance.add_dynamic_partitions(batches.name, [BATCH_ID])
        with ThreadPoolExecutor(max_workers=1) as thread:
            given = thread.submit(give) if orders else None
            result = slot_queue.execute_here(
                self.fakes.definitions.resolve_job_def("generate_batch"),
                BATCH_ID,
                instance=self.instance,
                tags=owner_tags(BATCH_ID),
            )
            if given is not None:
                given.result()
        return self.instance.get_run_by_id(result.run_id).status

    def stands_in_line(self):
        info = self.slots.get_concurrency_info(self.pool)
        return [step.step_key for step in info.pending_steps if step.run_id != HOLDER]

    def cancel(self):
        order_cancel(BATCH_ID, by="ann", store=self.fakes.store, clock=self.fakes.clock)
        self.fakes.clock.advance(timedelta(minutes=1))

    def pause(self):
        pause = Pause(scope="provider", name="local", by="ann", at=NOW)
        change_pauses(lambda known: known.with_pause(pause), store=self.fakes.store)
        self.fakes.clock.advance(timedelta(minutes=1))

    def free(self):
        self.slots.free_concurrency_slots_for_run(HOLDER)

    def terminate(self):
        os.kill(os.getpid(), signal.SIGTERM)

    def in_line(self):
        """Who has the slot, and who waits for it."""
        info = self.slots.get_concurrency_info(self.pool)
        return [slot.run_id for slot in info.claimed_slots], self.stands_in_line()


@pytest.fixture(params=POOLS)
def bed(instance, request):
    return Bed(instance, request.param)


def test_it_begins_when_a_slot_is_free(bed):
    assert bed.run(Bed.free) is dg.DagsterRunStatus.SUCCESS
    assert bed.fakes.status().state is BatchState.COMPLETED
    assert bed.in_line() == ([], [])


def waits_for(bed):
    found = read_progress(BATCH_ID, store=bed.fakes.store)
    return found.waits_for if found is not None else ""


def test_while_it_waits_it_says_for_what_and_who_has_it(bed):
    live = add_run(bed.instance, status=dg.DagsterRunStatus.STARTED, batch_id=OTHER)
    bed.slots.set_concurrency_slots(bed.pool, 2)
    assert bed.slots.claim_concurrency_slot(bed.pool, live.run_id, "a_step").is_claimed
    told = []

    status = bed.run(lambda bed: told.append(until(lambda: waits_for(bed))), Bed.free)

    over = "a run that is over (`assetgen doctor --fix` frees it)"
    assert told == [f"a slot of the pool {bed.pool}: 2 of 2 taken, by {over}, {OTHER}"]
    assert status is dg.DagsterRunStatus.SUCCESS


@pytest.mark.parametrize("order", [Bed.cancel, Bed.terminate])
def test_who_is_stopped_waits_for_nothing_any_more(bed, order):
    bed.run(lambda bed: until(lambda: waits_for(bed)), order)

    assert waits_for(bed) == ""


def test_where_the_bucket_takes_no_word_it_waits_on_all_the_same(bed, monkeypatch):
    words = []

    def away(_batch_id, waits_for, **_):
        words.append(waits_for)
        raise StorageUnavailable("away")

    monkeypatch.setattr(slot_queue, "note_wait", away)

    assert bed.run(lambda _bed: until(lambda: words), Bed.free) is dg.DagsterRunStatus.SUCCESS
    assert words[-1] == ""


def test_it_rests_between_two_looks(bed, monkeypatch):
    rests, rest = [], slot_queue.SlotQueue.interval_to_next_pending_claim_check

    def noted(queue):
        rests.append(rest(queue))
        return rests[-1]

    monkeypatch.setattr(slot_queue.SlotQueue, "interval_to_next_pending_claim_check", noted)

    bed.run(lambda _bed: until(lambda: len(rests) >= 3), Bed.cancel)

    assert max(rests) > 0.5
    assert len(rests) < 20


def test_cancelled_it_ends_without_a_slot(bed):
    assert bed.run(Bed.cancel) is dg.DagsterRunStatus.CANCELED
    status = bed.fakes.status()
    assert (status.state, status.images.not_attempted) == (BatchState.CANCELLED, 3)
    assert bed.fakes.store.read(BatchFolder(BATCH_ID).results).count(b",not_attempted,") == 3
    assert bed.fakes.ledger.open_holds() == []
    assert bed.fakes.asked() == []
    assert bed.in_line() == ([HOLDER], [])


def test_paused_it_waits_without_a_run_and_without_money_and_goes_on(bed):
    assert bed.run(Bed.pause) is dg.DagsterRunStatus.SUCCESS
    waiting = read_waiting(BATCH_ID, store=bed.fakes.store)
    assert (waiting.cause, waiting.provider) == ("pause", "local")
    assert bed.fakes.ledger.open_holds() == []
    assert bed.fakes.asked() == []
    assert bed.in_line() == ([HOLDER], [])

    change_pauses(lambda known: known.without("all", ""), store=bed.fakes.store)
    bed.free()

    assert bed.run() is dg.DagsterRunStatus.SUCCESS
    assert bed.fakes.status().state is BatchState.COMPLETED


def test_told_to_end_it_waits_for_the_next_daemon(bed):
    assert bed.run(Bed.terminate) is dg.DagsterRunStatus.SUCCESS
    assert read_waiting(BATCH_ID, store=bed.fakes.store).cause == "run"
    assert bed.fakes.ledger.open_holds() == []
    assert bed.in_line() == ([HOLDER], [])


def test_a_bucket_that_is_away_meanwhile_does_not_end_it(bed, monkeypatch):
    looks = []

    def away(*_, **__):
        looks.append("look")
        raise StorageUnavailable("away")

    monkeypatch.setattr(slot_queue, "stop_code", away)

    status = bed.run(lambda _bed: until(lambda: looks), Bed.free)

    assert status is dg.DagsterRunStatus.SUCCESS
