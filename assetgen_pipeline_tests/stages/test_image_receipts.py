"""Receipts: a process that dies between upload and booking costs exactly what it cost."""

import pytest

from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.errors import LedgerUnavailable
from assetgen_pipeline.domain.generation import ProviderImage
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.stages.close_batch import settle_batch
from assetgen_pipeline.stages.image_receipts import (
    book_receipts,
    create_thumbnail,
    describe_stored,
    read_thumbnail,
)
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.ledger import InMemoryLedger
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, NOW, OWNER
from assetgen_pipeline_tests.stage_bench import ONE_IMAGE, Bench, some_requests

EXACT = Money(1_234)


class DyingLedger(InMemoryLedger):
    """Reserves and takes intents; the process is gone before it can book a cost."""

    dying = True

    def capture(self, attempt, **booking):
        if self.dying:
            raise LedgerUnavailable("the process died here")
        super().capture(attempt, **booking)


def a_dying_bench():
    return Bench(ledger=DyingLedger(clock=ManualClock(NOW), default_limit=Money.from_usd("10")))


async def crash(bench, *requests):
    """Generate until the first booking, then die; the ledger works again afterwards."""
    batch = bench.open(*requests)
    answer = ProviderImage(data=b"the bytes", cost=EXACT, cost_basis="usage")
    with pytest.raises(LedgerUnavailable):
        await bench.generate(batch, ScriptedProvider(default=[answer]), concurrency=1)
    bench.ledger.dying = False
    return batch


def book(bench):
    return book_receipts(bench.attempts(), owner=OWNER, services=bench.services)


async def test_a_crash_between_upload_and_booking_is_booked_at_its_exact_cost():
    bench = a_dying_bench()
    await crash(bench)

    booked = book(bench)

    [attempt] = bench.attempts()
    assert booked == 1
    assert attempt.state is AttemptState.CAPTURED
    assert (attempt.cost, attempt.cost_basis, attempt.code) == (EXACT, "usage", "")
    assert bench.store.read(attempt.image.object_name) == b"the bytes"


async def test_a_receipt_corrects_an_attempt_that_was_assumed_at_its_ceiling():
    bench = a_dying_bench()
    await crash(bench)
    bench.ledger.settle(BATCH_ID)
    assumed = bench.ledger.day(OWNER).settled

    book(bench)

    assert assumed == ONE_IMAGE
    assert bench.ledger.day(OWNER).settled == EXACT
    assert bench.attempts()[0].state is AttemptState.CAPTURED


async def test_booking_receipts_again_books_nothing():
    bench = a_dying_bench()
    await crash(bench)
    book(bench)
    before = bench.attempts()

    again = book(bench)

    assert again == 0
    assert bench.attempts() == before


async def test_an_attempt_without_an_image_in_the_bucket_stays_open():
    bench = a_dying_bench()
    await crash(bench)
    for name in bench.names("images/"):
        bench.store.delete(name)

    booked = book(bench)

    assert booked == 0
    assert bench.attempts()[0].state is AttemptState.INTENT


async def test_an_image_that_another_attempt_made_is_no_receipt():
    bench = a_dying_bench()
    await crash(bench)
    [name] = bench.names("images/")
    bench.store.write(
        name,
        b"another's",
        content_type="image/png",
        metadata={"attempt_id": "another", "cost_micros": "1", "cost_basis": "flat"},
    )

    booked = book(bench)

    assert booked == 0
    assert bench.attempts()[0].cost is None


@pytest.mark.parametrize(
    "damage",
    [
        {"cost_micros": "a lot"},
        {"cost_micros": "-1"},
        {"cost_micros": "9" * 20},
        {"latency_ms": "soon"},
        {"latency_ms": "9" * 20},
        {"cost_basis": "reused"},
        {"cost_basis": None},
        {"cost_micros": None},
    ],
)
async def test_a_receipt_that_somebody_damaged_keeps_no_money_held(damage):
    bench = a_dying_bench()
    await crash(bench)
    [stored] = bench.store.list("images/")
    metadata = {**stored.metadata, **damage}
    metadata = {name: value for name, value in metadata.items() if value is not None}
    bench.store.write(stored.name, b"the bytes", content_type="image/png", metadata=metadata)

    settle_batch(BATCH_ID, services=bench.services)

    [attempt] = bench.attempts()
    assert (attempt.state, attempt.cost) == (AttemptState.ASSUMED, ONE_IMAGE)
    assert bench.ledger.open_holds() == []
    assert bench.broken() == []


async def test_only_the_owners_own_images_are_receipts():
    bench = a_dying_bench()
    await crash(bench)

    booked = book_receipts(bench.attempts(), owner="agency", services=bench.services)

    assert booked == 0


async def test_attempts_that_are_booked_already_are_not_looked_up():
    bench = Bench()
    await bench.generate(bench.open(*some_requests(3)))
    bench.store.calls.clear()

    booked = book(bench)

    assert booked == 0
    assert bench.store.calls == []


async def test_an_image_that_a_later_release_refuses_is_booked_at_its_cost_all_the_same():
    bench = a_dying_bench()
    await crash(bench)
    [name] = bench.names("images/")
    metadata = bench.store.stat(name).metadata
    bench.store.write(name, b"bad by now", content_type="image/png", metadata=metadata)

    settle_batch(BATCH_ID, services=bench.services)

    [attempt] = bench.attempts()
    assert (attempt.state, attempt.cost, attempt.image) == (AttemptState.CAPTURED, EXACT, None)
    assert attempt.code == "provider-rejected"
    assert bench.ledger.open_holds() == []


async def test_a_retry_after_the_crash_delivers_without_paying_again():
    bench = a_dying_bench()
    batch = await crash(bench)
    book(bench)
    provider = ScriptedProvider()

    report = await bench.generate(batch, provider, run_id="run-2")

    assert provider.requests == []
    assert report.already_delivered == 1
    assert bench.outcome().spent() == EXACT


async def test_a_crash_before_the_thumbnail_is_mended_when_the_receipt_is_booked():
    bench = a_dying_bench()
    await crash(bench)
    [thumbnail] = bench.names("thumbnails/")
    bench.store.delete(thumbnail)

    book(bench)

    assert bench.store.read(thumbnail) == b"thumbnail:the bytes"
    assert bench.attempts()[0].image.thumbnail_name == thumbnail


def test_a_stored_image_is_described_from_its_bytes():
    bench = Bench()
    name = f"images/{OWNER}/ab/abcd.png"
    bench.store.create(name, b"12345", content_type="image/png")

    kept = describe_stored(name, owner=OWNER, services=bench.services)

    assert (kept.object_name, kept.size_bytes, kept.mime_type) == (name, 5, "image/png")
    assert (kept.width, kept.height) == (64, 64)
    assert kept.thumbnail_name == f"thumbnails/{OWNER}/ab/abcd.jpg"


def test_a_thumbnail_that_is_there_already_stays():
    bench = Bench()
    create_thumbnail("thumbnails/t.jpg", b"first", store=bench.store)

    create_thumbnail("thumbnails/t.jpg", b"second", store=bench.store)

    assert bench.store.read("thumbnails/t.jpg") == b"first"
    assert bench.store.stat("thumbnails/t.jpg").updated_at == NOW


async def test_a_lost_thumbnail_is_made_again_when_it_is_wanted():
    bench = Bench()
    await bench.generate(bench.open())
    [attempt] = bench.attempts()
    bench.store.delete(attempt.image.thumbnail_name)

    again = read_thumbnail(attempt.image, owner=OWNER, services=bench.services)

    assert again.startswith(b"thumbnail:")
    assert bench.store.read(attempt.image.thumbnail_name) == again


async def test_a_thumbnail_of_an_image_that_was_purged_is_none():
    bench = Bench()
    await bench.generate(bench.open())
    [attempt] = bench.attempts()
    for name in (attempt.image.object_name, attempt.image.thumbnail_name):
        bench.store.delete(name)

    assert read_thumbnail(attempt.image, owner=OWNER, services=bench.services) is None


async def test_a_lost_thumbnail_of_an_image_that_a_later_release_refuses_is_none():
    bench = Bench()
    await bench.generate(bench.open())
    [attempt] = bench.attempts()
    bench.store.delete(attempt.image.thumbnail_name)
    bench.store.write(attempt.image.object_name, b"bad by now", content_type="image/png")

    assert read_thumbnail(attempt.image, owner=OWNER, services=bench.services) is None
