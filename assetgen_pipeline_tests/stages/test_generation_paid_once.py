"""An image is paid once: by a batch, by an owner, over retries."""

import asyncio
from dataclasses import replace

import pytest

from assetgen_pipeline.domain.bucket_layout import image_name
from assetgen_pipeline.domain.budget import AttemptRequest
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.domain.generation import (
    ErrorKind,
    plan_images,
)
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.domain.outcome import ImageStatus
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline.testing.references import FakeImageCodec
from assetgen_pipeline_tests.builders import (
    BUCKET,
    OWNER,
    RUN_ID,
    an_answer,
    an_error,
    an_image_request,
)
from assetgen_pipeline_tests.stage_bench import (
    MODEL,
    ONE_IMAGE,
    PROVIDER,
    Bench,
    always,
    some_requests,
    statuses,
)

OTHER_BATCH = "studio.summer.0123abcd"
PURGED_BATCH = "studio.winter.0123abcd"
OTHER_OWNERS_BATCH = "agency.spring.0123abcd"


async def test_what_the_providers_policy_blocked_is_never_asked_again():
    bench = Bench()
    batch = bench.open(*some_requests(2))
    blocked = an_error(ErrorKind.CONTENT_BLOCKED)
    await bench.generate(batch, ScriptedProvider({"S1/1": [blocked]}))

    report, asked = await bench.retry(batch)

    assert asked == []
    assert report.already_delivered == 2
    assert statuses(bench) == [ImageStatus.BLOCKED, ImageStatus.DELIVERED]


async def test_a_retry_asks_only_for_what_is_missing():
    bench = Bench()
    batch = bench.open(*some_requests(3))
    failure = an_error(ErrorKind.INVALID_REQUEST)
    await bench.generate(batch, ScriptedProvider({"S2/1": [failure]}))

    report, asked = await bench.retry(batch)

    assert asked == ["S2/1"]
    assert (report.already_delivered, report.generated) == (2, 1)
    assert set(statuses(bench)) == {ImageStatus.DELIVERED}


async def test_identical_requests_of_a_batch_are_paid_once():
    bench = Bench()
    batch = bench.open(*some_requests(4, prompt="the same kitchen"))
    provider = ScriptedProvider()

    report = await bench.generate(batch, provider)

    images = bench.outcome().images
    assert len(provider.requests) == 1
    assert (report.generated, report.reused) == (1, 3)
    assert [image.cost for image in images] == [ONE_IMAGE, ZERO, ZERO, ZERO]
    assert [image.cost_basis for image in images] == ["flat", "reused", "reused", "reused"]
    assert len({image.image.object_name for image in images}) == 1


async def test_identical_requests_are_paid_once_also_where_the_first_of_them_failed():
    bench = Bench()
    batch = bench.open(*some_requests(4, prompt="the same kitchen"))
    failure = an_error(ErrorKind.INVALID_REQUEST)
    provider = ScriptedProvider({"S1/1": [failure]})

    report = await bench.generate(batch, provider)

    assert [request.image.item_key for request in provider.requests] == ["S1/1", "S2/1"]
    assert (report.failed, report.generated, report.reused) == (1, 1, 2)


async def test_identical_requests_of_an_owners_batches_are_paid_once():
    bench = Bench()
    await bench.generate(bench.open())
    later = bench.open(an_image_request("Z9"), batch_id=OTHER_BATCH)
    provider = ScriptedProvider()

    report = await bench.generate(later, provider)

    assert provider.requests == []
    assert report.reused == 1
    assert bench.outcome(OTHER_BATCH).spent() == ZERO
    assert bench.ledger.day(OWNER).settled == ONE_IMAGE


class OneType(FakeImageCodec):
    """Takes every image for one of a type."""

    def __init__(self, mime_type):
        super().__init__()
        self._mime_type = mime_type

    def inspect(self, data):
        return replace(super().inspect(data), mime_type=self._mime_type)


async def at_once(bench):
    """Run two batches that ask for the same image, the second while the first is in flight."""
    first, second = bench.open(), bench.open(an_image_request("Z9"), batch_id=OTHER_BATCH)
    asked, answered = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedProvider):
        """Answers the first batch only when told to."""

        async def generate(self, image, references, token):
            asked.set()
            await answered.wait()
            return await super().generate(image, references, token)

    class Patient(ManualClock):
        """Lets the first batch be answered once the second has waited for it."""

        async def sleep(self, seconds):
            answered.set()
            await super().sleep(seconds)

    bench.services = replace(bench.services, clock=Patient(bench.clock.now()))
    provider = Slow(default=[an_answer()])
    running = asyncio.ensure_future(bench.generate(first, provider))
    await asked.wait()
    try:
        report = await asyncio.wait_for(bench.generate(second, provider), timeout=120)
    finally:
        answered.set()
        await running
    return provider, report


async def test_two_batches_at_once_that_ask_for_the_same_pay_once():
    bench = Bench()

    provider, report = await at_once(bench)

    assert len(provider.requests) == 1
    assert report.reused == 1
    assert bench.ledger.day(OWNER).settled == Money(1_500)


@pytest.mark.parametrize("mime_type", ["image/png", "image/jpeg"])
async def test_two_batches_at_once_that_miss_the_same_image_pay_once(mime_type):
    bench = Bench()
    await bench.generate(bench.open(batch_id=PURGED_BATCH), always(an_answer()))
    [gone] = bench.names("images/")
    bench.store.delete(gone)
    bench.services = replace(bench.services, codec=OneType(mime_type))

    provider, report = await at_once(bench)

    assert len(provider.requests) == 1
    assert report.reused == 1
    assert bench.store.stat(bench.attempts(OTHER_BATCH)[-1].image.object_name) is not None
    assert bench.ledger.day(OWNER).settled == Money(1_500) * 2


async def test_a_batch_that_died_over_the_same_image_is_not_waited_for_for_ever():
    bench = Bench()
    died = bench.open()
    [image] = bench.plan(died)
    hold = bench.reserve(died).hold
    dead = AttemptRequest(
        item_key=image.item_key,
        image_id=image.image_id,
        row_number=1,
        scene_id="S1",
        variant=1,
        provider=PROVIDER,
        model=MODEL,
        lane="stable",
        run_id=RUN_ID,
        ceiling=ONE_IMAGE,
    )
    bench.ledger.intent(hold, dead)

    report = await bench.generate(bench.open(batch_id=OTHER_BATCH))

    assert report.generated == 1
    assert 600 <= sum(bench.clock.sleeps) <= 610


async def test_identical_requests_of_two_owners_are_paid_by_each():
    bench = Bench()
    await bench.generate(bench.open())
    other = bench.open(batch_id=OTHER_OWNERS_BATCH, owner="agency")
    provider = ScriptedProvider()

    report = await bench.generate(other, provider)

    assert (len(provider.requests), report.reused) == (1, 0)
    assert bench.ledger.day("agency").settled == ONE_IMAGE
    assert len(bench.names("images/studio/")) == len(bench.names("images/agency/")) == 1


async def test_variants_of_a_row_are_different_images():
    bench = Bench()
    provider = ScriptedProvider()

    await bench.generate(bench.open(an_image_request(variants=3)), provider)

    assert len(provider.requests) == 3
    assert len(bench.names("images/")) == 3


async def test_an_image_that_was_purged_since_is_made_again():
    bench = Bench()
    await bench.generate(bench.open())
    bench.store.delete(bench.attempts()[0].image.object_name)
    later = bench.open(batch_id=OTHER_BATCH)
    provider = ScriptedProvider()

    report = await bench.generate(later, provider)

    assert len(provider.requests) == 1
    assert (report.generated, report.reused) == (1, 0)
    assert len(bench.names("images/")) == 1


async def test_an_image_stored_by_an_attempt_that_was_never_booked_stays_the_one_delivered():
    bench = Bench()
    batch = bench.open()
    decision = bench.decide(batch)
    [image] = plan_images(batch, decision, provider=PROVIDER, model=MODEL)
    name = image_name(OWNER, image.image_id, "image/png")
    bench.store.create(name, b"the first", content_type="image/png")

    await bench.generate(batch, always(an_answer(b"the second")))

    [attempt] = bench.attempts()
    assert bench.store.read(name) == b"the first"
    assert attempt.image.size_bytes == len(b"the first")
    assert attempt.cost == Money(1_500)
    assert bench.store.read(attempt.image.thumbnail_name) == b"thumbnail:the first"


async def test_what_an_identical_request_made_meanwhile_serves_the_one_of_unknown_outcome():
    bench = Bench()
    batch = bench.open(*some_requests(2, prompt="the same kitchen"))
    lost = an_error(ErrorKind.UNKNOWN_OUTCOME)
    provider = ScriptedProvider({"S1/1": [lost]})

    report = await bench.generate(batch, provider)

    assert len(provider.requests) == 2
    assert (report.generated, report.reused) == (1, 1)
    assert bench.outcome().spent() == ONE_IMAGE * 2


class CutOff(InMemoryObjectStore):
    """Takes one upload of an image and loses the answer; until `back`, it takes no other."""

    back = False

    def create(self, name, *args, **kwargs):
        if not name.startswith("images/") or self.back:
            return super().create(name, *args, **kwargs)
        if not self.names():
            super().create(name, *args, **kwargs)
        raise StorageUnavailable("the bucket was told to be unavailable")

    def names(self):
        return [found.name for found in self.list("images/")]


async def test_an_image_whose_upload_was_never_answered_is_not_paid_again():
    bench = Bench(store=CutOff(BUCKET))
    batch = bench.open(*some_requests(2, prompt="the same kitchen"))
    await bench.generate(batch, always(an_answer()), concurrency=1)
    bench.store.back = True

    report, asked = await bench.retry(batch)

    assert asked == []
    assert report.reused == 2
    assert bench.outcome().spent() == Money(1_500)
    assert set(statuses(bench)) == {ImageStatus.DELIVERED}
    assert bench.store.read(bench.outcome().images[0].image.thumbnail_name) == b"thumbnail:png"


async def test_an_image_that_never_reached_the_bucket_is_made_again():
    bench = Bench(store=CutOff(BUCKET))
    batch = bench.open()
    await bench.generate(batch, always(an_answer()))
    [stored] = bench.names("images/")
    bench.store.delete(stored)
    bench.store.back = True

    report, asked = await bench.retry(batch)

    assert (len(asked), report.generated) == (1, 1)


async def test_an_image_in_the_bucket_that_a_later_release_refuses_is_made_again():
    bench = Bench(store=CutOff(BUCKET))
    batch = bench.open(*some_requests(2))
    await bench.generate(batch, always(an_answer()), concurrency=1)
    [stored] = bench.names("images/")
    bench.store.write(stored, b"bad by now", content_type="image/png")
    bench.store.back = True

    report, asked = await bench.retry(batch)

    # Paid once more than it should be, and not with every retry.
    assert asked == ["S1/1", "S2/1", "S1/1"]
    assert (report.failed, report.generated) == (0, 2)
    assert bench.store.read(stored) != b"bad by now"
    assert set(statuses(bench)) == {ImageStatus.DELIVERED}


class Vanishing(InMemoryObjectStore):
    """Has an image until it is looked at, or read."""

    def __init__(self, *, at):
        super().__init__(BUCKET)
        self.at = at

    def stat(self, name):
        self._lose(name, at="stat")
        return super().stat(name)

    def read(self, name, **kwargs):
        self._lose(name, at="read")
        return super().read(name, **kwargs)

    def _lose(self, name, *, at):
        if name.startswith("images/") and at == self.at:
            self.delete(name)


@pytest.mark.parametrize("at", ["stat", "read"])
async def test_an_image_that_stood_in_the_way_and_is_gone_costs_one_attempt_and_no_shard(at):
    bench = Bench(store=Vanishing(at=at))
    batch = bench.open()
    [image] = bench.plan(batch)
    name = image_name(OWNER, image.image_id, "image/png")
    bench.store.create(name, b"the first", content_type="image/png")

    report = await bench.generate(batch, always(an_answer()))

    assert (report.failed, report.generated) == (0, 1)
    assert [a.cost for a in bench.attempts()] == [Money(1_500)] * 2
    assert bench.broken() == []
