"""The list of batches that wait."""

from datetime import timedelta

from assetgen_pipeline.domain.bucket_layout import WAITING, BatchFolder
from assetgen_pipeline.stages.waiting_batches import (
    begin_work,
    read_waiting,
    stop_waiting,
    wait_for,
    waiting_batches,
)
from assetgen_pipeline_tests.builders import BATCH_ID, NOW, OWNER
from assetgen_pipeline_tests.stage_bench import Bench

OTHER = "ada.other.00000001"


def put(bench, cause, batch_id=BATCH_ID, **facts):
    return wait_for(cause, batch_id, store=bench.store, clock=bench.clock, **facts)


def test_a_batch_on_the_list_says_whose_it_is_what_it_waits_for_and_since_when():
    bench = Bench()

    put(bench, "pause", provider="gemini")

    found = read_waiting(BATCH_ID, store=bench.store)
    assert (found.owner, found.cause, found.since, found.provider) == (
        OWNER, "pause", NOW, "gemini",
    )  # fmt: skip


def test_waiting_for_the_same_goes_on_where_it_began():
    bench = Bench()
    first = put(bench, "approval")
    bench.clock.advance(timedelta(days=6))

    assert put(bench, "approval") == first


def test_asking_for_a_run_again_asks_for_another_run():
    bench = Bench()
    put(bench, "run")
    [(_, first)] = waiting_batches(store=bench.store)

    put(bench, "run")

    [(_, second)] = waiting_batches(store=bench.store)
    assert second != first


def test_a_batch_waits_for_one_thing_at_a_time():
    bench = Bench()
    put(bench, "approval")

    put(bench, "run")

    [(found, _)] = waiting_batches(store=bench.store)
    assert found.cause == "run"


def test_a_run_that_begins_takes_its_batch_off_the_list():
    bench = Bench()
    put(bench, "run")
    put(bench, "run", OTHER)

    begin_work(BATCH_ID, store=bench.store)
    begin_work(BATCH_ID, store=bench.store)

    assert [found.batch_id for found, _ in waiting_batches(store=bench.store)] == [OTHER]


def test_a_run_that_begins_does_not_give_its_batch_more_time_to_be_approved():
    bench = Bench()
    put(bench, "approval")

    begin_work(BATCH_ID, store=bench.store)

    assert read_waiting(BATCH_ID, store=bench.store).since == NOW


def test_an_entry_that_cannot_be_read_does_not_hold_the_others_up():
    bench = Bench()
    bench.store.write(WAITING + "ada.bad.00000002", b"{", content_type="application/json")
    put(bench, "run")

    assert [found.batch_id for found, _ in waiting_batches(store=bench.store)] == [BATCH_ID]


def test_a_look_at_a_long_list_is_one_listing():
    bench = Bench()
    for n in range(50):
        put(bench, "pause", f"ada.b.{n:08x}", provider="local")
    bench.store.calls.clear()

    found = [waiting for waiting, _ in waiting_batches(store=bench.store)]

    assert bench.store.calls == [("list", WAITING)]
    assert [one.batch_id for one in found] == [f"ada.b.{n:08x}" for n in range(50)]
    assert found[0] == read_waiting("ada.b.00000000", store=bench.store)


def test_a_batch_taken_off_the_list_is_off_it():
    bench = Bench()
    put(bench, "run")

    stop_waiting(BATCH_ID, store=bench.store)

    assert read_waiting(BATCH_ID, store=bench.store) is None
    assert bench.store.stat(BatchFolder(BATCH_ID).waiting) is None
