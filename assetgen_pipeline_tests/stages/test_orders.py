"""Orders in the bucket."""

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.orders import Reason
from assetgen_pipeline.stages.batch_files import outcome_now, reason_of_the_rest
from assetgen_pipeline.stages.orders import (
    is_cancelled,
    order_cancel,
    order_rows,
    read_order,
    scenes_ordered,
    withdraw_order,
)
from assetgen_pipeline_tests.builders import BATCH_ID
from assetgen_pipeline_tests.stage_bench import Bench, some_requests

CANCELLED = Reason(code="cancelled", detail="Cancelled")


def test_an_order_to_cancel_says_who_gave_it_and_when():
    bench = Bench()

    order_cancel(BATCH_ID, by="ann@desk", store=bench.store, clock=bench.clock)

    order = read_order(BATCH_ID, store=bench.store)
    assert (order.by, order.at) == ("ann@desk", bench.clock.now().isoformat())
    assert is_cancelled(BATCH_ID, store=bench.store)
    assert scenes_ordered(BATCH_ID, store=bench.store) is None


def test_a_retry_of_some_rows_replaces_an_order_to_cancel():
    bench = Bench()
    order_cancel(BATCH_ID, by="ann", store=bench.store, clock=bench.clock)

    order_rows(BATCH_ID, ["S1"], by="ann", others=None, store=bench.store, clock=bench.clock)

    assert not is_cancelled(BATCH_ID, store=bench.store)
    assert scenes_ordered(BATCH_ID, store=bench.store) == {"S1"}


def test_without_an_order_nothing_is_stopped_or_limited():
    bench = Bench()
    order_cancel(BATCH_ID, by="ann", store=bench.store, clock=bench.clock)
    withdraw_order(BATCH_ID, store=bench.store)
    withdraw_order(BATCH_ID, store=bench.store)

    assert read_order(BATCH_ID, store=bench.store) is None
    assert not is_cancelled(BATCH_ID, store=bench.store)
    assert scenes_ordered(BATCH_ID, store=bench.store) is None


def test_an_order_that_nobody_can_read_does_nothing():
    bench = Bench()
    bench.store.write(BatchFolder(BATCH_ID).control, b"{", content_type="application/json")

    assert read_order(BATCH_ID, store=bench.store) is None


def test_the_rows_left_out_of_a_retry_keep_the_reason_they_had():
    bench = Bench()
    bench.open(*some_requests(2))
    order_rows(BATCH_ID, ["S1"], by="a", others=CANCELLED, store=bench.store, clock=bench.clock)

    outcome = outcome_now(BATCH_ID, store=bench.store, ledger=bench.ledger)

    assert {image.code for image in outcome.images} == {"cancelled"}


def test_a_retry_of_some_rows_of_a_batch_without_a_problem_explains_nothing():
    bench = Bench()
    order_rows(BATCH_ID, ["S1"], by="a", others=None, store=bench.store, clock=bench.clock)

    assert reason_of_the_rest(BATCH_ID, store=bench.store) is None
