"""Paid images while the bucket is down: kept in memory, or booked all the same."""

from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.outcome import ImageStatus
from assetgen_pipeline.stages.keep_image import STORAGE_WAITS_S
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BUCKET, an_answer
from assetgen_pipeline_tests.stage_bench import Bench, always, some_requests, statuses, stopped_by


async def test_a_paid_image_waits_in_memory_until_the_bucket_is_back_and_nothing_is_bought():
    bench = Bench()
    batch = bench.open(*some_requests(6))
    bench.store.fail_next("create", times=4)
    provider = always(an_answer(cost=1_234))

    report = await bench.generate(batch, provider, concurrency=1)

    assert report.generated == 6
    assert set(statuses(bench)) == {ImageStatus.DELIVERED}
    assert bench.clock.sleeps == [2, 5, 10, 20]
    assert len(provider.requests) == 6


async def test_while_a_paid_image_waits_for_the_bucket_the_other_workers_buy_nothing():
    class Down(InMemoryObjectStore):
        """Refuses the first image it is given, five times."""

        refused = None
        bought = ()

        def create(self, name, *args, **kwargs):
            self.refused = self.refused or name
            if name == self.refused and len(self.bought) < 5:
                self.bought += (len(provider.requests),)
                raise StorageUnavailable("the bucket was told to be unavailable")
            return super().create(name, *args, **kwargs)

    bench = Bench(store=Down(BUCKET))
    provider = ScriptedProvider()

    report = await bench.generate(bench.open(*some_requests(30)), provider, concurrency=3)

    assert report.generated == 30
    assert max(bench.store.bought) <= 2 * 3


class Refusing(InMemoryObjectStore):
    """Never takes an object under one prefix."""

    def __init__(self, prefix):
        super().__init__(BUCKET)
        self.prefix = prefix

    def create(self, name, *args, **kwargs):
        if name.startswith(self.prefix):
            raise StorageUnavailable("the bucket was told to be unavailable")
        return super().create(name, *args, **kwargs)


async def test_an_image_that_can_never_be_stored_is_booked_as_paid_and_the_shard_ends():
    bench = Bench(store=Refusing("images/"))
    batch = bench.open(*some_requests(3))
    provider = always(an_answer(cost=1_234))

    report = await bench.generate(batch, provider, concurrency=1)

    [attempt] = bench.attempts()
    assert (attempt.state, attempt.cost) == (AttemptState.CAPTURED, Money(1_234))
    assert (attempt.image, attempt.code) == (None, "storage-unavailable")
    assert (report.failed, report.not_attempted) == (1, 2)
    assert stopped_by(report) == "storage-unavailable"
    assert len(provider.requests) == 1
    assert bench.clock.sleeps == list(STORAGE_WAITS_S)


async def test_a_thumbnail_that_can_never_be_stored_loses_no_image():
    bench = Bench(store=Refusing("thumbnails/"))
    batch = bench.open(*some_requests(6))

    report = await bench.generate(batch, always(an_answer(cost=1_234)), concurrency=1)

    attempts = bench.attempts()
    # One more may have been bought before the trouble with the first was known.
    assert len(attempts) in {1, 2}
    for attempt in attempts:
        assert bench.store.read(attempt.image.object_name) == b"png"
        assert (attempt.cost, attempt.code) == (Money(1_234), "")
    assert (report.generated, report.not_attempted) == (len(attempts), 6 - len(attempts))
    assert stopped_by(report) == "storage-unavailable"


async def test_a_retry_after_a_thumbnail_was_lost_pays_nothing_again():
    bench = Bench(store=Refusing("thumbnails/"))
    batch = bench.open()
    await bench.generate(batch, always(an_answer(cost=1_234)))

    report, asked = await bench.retry(batch)

    assert asked == []
    assert report.already_delivered == 1
