"""I8: nothing is stored that is not booked, nothing is booked that is not stored."""

import pytest

from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.stages.ledger_completeness import (
    check_batch_completeness,
    check_completeness,
)
from assetgen_pipeline.stages.purge_batch import plan_purge, purge_batch
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.ledger import InMemoryLedger
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, NOW
from assetgen_pipeline_tests.ledger_helpers import request
from assetgen_pipeline_tests.stage_bench import Bench, some_requests

WAYS = ["whole", "batch"]


def violations(bench, way="whole"):
    ports = {"store": bench.store, "ledger": bench.ledger}
    if way == "batch":
        return check_batch_completeness(BATCH_ID, **ports).violations
    return check_completeness(**ports).violations


async def a_delivered_bench(count=3):
    bench = Bench()
    await bench.generate(bench.open(*some_requests(count)))
    bench.ledger.settle(BATCH_ID)
    return bench


@pytest.mark.parametrize("way", WAYS)
async def test_delivered_images_are_complete_both_ways(way):
    bench = await a_delivered_bench()

    assert violations(bench, way) == ()


@pytest.mark.parametrize("way", WAYS)
async def test_a_booked_image_that_is_not_stored_is_found(way):
    bench = await a_delivered_bench()
    lost = bench.attempts()[1].image.object_name
    bench.store.delete(lost)

    assert violations(bench, way) == (f"{lost} is booked by {BATCH_ID} and not stored",)


@pytest.mark.parametrize("way", WAYS)
async def test_a_stored_image_whose_attempt_is_nowhere_booked_is_found(way):
    bench = await a_delivered_bench()
    beside = bench.attempts()[0].image.object_name.replace(".png", "-2.png")
    bench.store.create(beside, b"x", content_type="image/png", metadata={"attempt_id": "f" * 64})

    assert violations(bench, way) == (f"{beside} is stored and its attempt is not in the ledger",)


async def test_a_stored_image_that_names_no_attempt_is_found():
    bench = Bench()
    bench.store.create("images/studio/aa/aa01.png", b"x", content_type="image/png")

    assert violations(bench) == (
        "images/studio/aa/aa01.png is stored and its attempt is not in the ledger",
    )


async def test_an_image_whose_attempt_was_assumed_although_its_receipt_is_stored_is_found():
    bench = await a_delivered_bench(1)
    [attempt] = bench.attempts()
    forgetful = InMemoryLedger(clock=ManualClock(NOW), default_limit=Money.from_usd("10"))
    other = Bench(ledger=forgetful, store=bench.store)
    hold = other.reserve(other.open(*some_requests(1))).hold
    again = request(attempt.item_key, attempt.ceiling.micros, image_id=attempt.image_id)
    token = forgetful.intent(hold, again)
    assert token.attempt_id == attempt.attempt_id

    assert violations(other) == ()

    forgetful.settle(BATCH_ID)
    assert violations(other) == (
        f"{attempt.image.object_name} is stored and its attempt is assumed",
    )


async def test_a_batch_that_was_purged_misses_nothing():
    bench = await a_delivered_bench()
    assert violations(bench) == ()

    await purge_batch(await plan_purge(BATCH_ID, services=bench.services), services=bench.services)

    assert bench.names("images/") == []
    assert violations(bench) == ()


async def test_a_purge_that_was_broken_off_is_found():
    bench = await a_delivered_bench(1)
    lost = bench.attempts()[0].image.object_name
    bench.store.delete(lost)

    assert violations(bench) == (f"{lost} is booked by {BATCH_ID} and not stored",)


class Unreachable(InMemoryObjectStore):
    down = False

    def list(self, prefix):
        if self.down:
            raise StorageUnavailable("no answer")
        return super().list(prefix)


@pytest.mark.parametrize("way", WAYS)
async def test_a_bucket_that_cannot_be_read_proves_nothing(way):
    store = Unreachable(BUCKET, clock=ManualClock(NOW))
    bench = Bench(store=store)
    await bench.generate(bench.open())
    store.down = True

    assert violations(bench, way) == ("not checked: storage-unavailable: no answer",)
