"""What stops a shard, and what becomes of the calls in flight."""

import asyncio

import pytest

from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.domain.generation import (
    ErrorKind,
)
from assetgen_pipeline.domain.outcome import ImageStatus
from assetgen_pipeline.stages.pacer import Pacer
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import (
    an_error,
)
from assetgen_pipeline_tests.stage_bench import (
    STOPS,
    Bench,
    always,
    some_requests,
    statuses,
    stopped_by,
)


@pytest.mark.parametrize(("kind", "code"), STOPS.items())
async def test_a_failure_that_concerns_the_account_stops_the_shard(kind, code):
    bench = Bench()
    batch = bench.open(*some_requests(5))
    provider = ScriptedProvider({"S2/1": [an_error(kind)]})

    report = await bench.generate(batch, provider, concurrency=1)

    assert statuses(bench) == [
        ImageStatus.DELIVERED,
        ImageStatus.FAILED,
        *[ImageStatus.NOT_ATTEMPTED] * 3,
    ]
    assert (report.generated, report.failed, report.not_attempted) == (1, 1, 3)
    assert stopped_by(report) == code
    assert len(provider.requests) == 2


async def test_images_in_flight_when_the_shard_stops_are_finished_and_kept():
    bench = Bench()
    batch = bench.open(*some_requests(4))
    provider = ScriptedProvider({"S1/1": [an_error(ErrorKind.AUTH)]})

    report = await bench.generate(batch, provider, concurrency=2)

    assert statuses(bench)[:2] == [ImageStatus.FAILED, ImageStatus.DELIVERED]
    assert len(provider.requests) == report.failed + report.generated
    assert report.failed + report.generated + report.not_attempted == 4


async def test_an_image_that_waits_to_try_again_gives_up_when_the_shard_stops():
    bench = Bench()
    batch = bench.open()
    stop = iter(["", "cancelled"])
    provider = always(an_error(ErrorKind.TRANSIENT))

    report = await bench.generate(batch, provider, should_stop=lambda: next(stop))

    assert len(provider.requests) == 1
    assert (report.failed, report.not_attempted) == (1, 0)
    assert stopped_by(report) == "cancelled"
    assert statuses(bench) == [ImageStatus.FAILED]


async def test_the_first_reason_to_stop_is_the_one_reported():
    bench = Bench()
    batch = bench.open(*some_requests(2))
    first_ended = asyncio.Event()

    class InTurn(ScriptedProvider):
        """Lets the second image fail only once the first one ended."""

        async def generate(self, image, references, token):
            if image.scene_id == "S2":
                await first_ended.wait()
            return await super().generate(image, references, token)

    script = {
        "S1/1": [an_error(ErrorKind.AUTH)],
        "S2/1": [an_error(ErrorKind.FATAL_CONFIG)],
    }
    report = await bench.generate(batch, InTurn(script), on_progress=first_ended.set)

    assert [image.code for image in bench.outcome().images] == ["provider-auth", "provider-config"]
    assert stopped_by(report) == "provider-auth"


async def test_a_stop_marker_ends_the_shard_before_the_next_image():
    bench = Bench()
    batch = bench.open(*some_requests(4))
    provider = ScriptedProvider()

    report = await bench.generate(
        batch,
        provider,
        concurrency=1,
        should_stop=lambda: "cancelled" if len(provider.requests) == 2 else "",
    )

    assert (report.generated, report.not_attempted) == (2, 2)
    assert stopped_by(report) == "cancelled"


async def test_progress_is_told_after_every_image_whatever_became_of_it():
    bench = Bench()
    batch = bench.open(*some_requests(4))
    provider = ScriptedProvider({"S2/1": [an_error(ErrorKind.AUTH)]})
    seen = []

    await bench.generate(
        batch, provider, concurrency=1, on_progress=lambda: seen.append(len(bench.attempts()))
    )

    assert sorted(set(seen)) == [0, 1, 2]
    assert len(seen) >= 4


async def test_an_error_of_ours_lets_paid_calls_in_flight_come_home_first():
    bench = Bench()
    batch = bench.open(*some_requests(8))
    failed, others_called = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedProvider):
        """The first image meets a bug; the others answer only after that."""

        async def generate(self, image, references, token):
            if image.scene_id == "S1":
                await others_called.wait()
                failed.set()
                raise RuntimeError("a bug in the provider")
            if self.in_flight == 2:
                others_called.set()
            return await super().generate(image, references, token)

    provider = Slow(hold=failed)
    with pytest.raises(RuntimeError, match="a bug in the provider"):
        await bench.generate(batch, provider, concurrency=4)

    states = [attempt.state for attempt in bench.attempts()]
    assert len(provider.requests) == 3
    assert states.count(AttemptState.CAPTURED) == 3
    assert states.count(AttemptState.INTENT) == 1


async def test_a_report_that_fails_lets_paid_calls_in_flight_come_home_first():
    bench = Bench()
    batch = bench.open(*some_requests(4))
    loop, reported = asyncio.get_running_loop(), asyncio.Event()

    class Slow(ScriptedProvider):
        """The first image is there at once; the others answer after its report has failed."""

        async def generate(self, image, references, token):
            if image.scene_id != "S1":
                await reported.wait()
            return await super().generate(image, references, token)

    def report():
        if any(attempt.state is AttemptState.CAPTURED for attempt in bench.attempts()):
            loop.call_soon_threadsafe(reported.set)
            raise StorageUnavailable("the bucket is away")

    with pytest.raises(StorageUnavailable):
        await bench.generate(batch, Slow(), concurrency=4, on_progress=report)

    assert [attempt.state for attempt in bench.attempts()] == [AttemptState.CAPTURED] * 4


@pytest.mark.parametrize(
    ("kind", "code", "calls"),
    [
        (ErrorKind.INVALID_REQUEST, "provider-rejected", 10),
        (ErrorKind.UNKNOWN_OUTCOME, "provider-unavailable", 10),
        (ErrorKind.TRANSIENT, "provider-unavailable", 50),
    ],
)
async def test_ten_images_in_a_row_that_fail_alike_stop_the_batch(kind, code, calls):
    bench = Bench()
    batch = bench.open(*some_requests(40))
    provider = always(an_error(kind))

    report = await bench.generate(batch, provider, concurrency=1)

    assert len(provider.requests) == calls
    assert stopped_by(report) == code
    assert report.not_attempted == 30


async def test_the_next_shard_of_a_stopped_batch_starts_nothing():
    bench = Bench()
    batch = bench.open(*some_requests(3))
    pacer = Pacer(ceiling=4, clock=bench.clock)
    await bench.generate(batch, always(an_error(ErrorKind.AUTH)), pacer=pacer, concurrency=1)
    provider = ScriptedProvider()

    report = await bench.generate(batch, provider, pacer=pacer)

    assert provider.requests == []
    assert (report.not_attempted, stopped_by(report)) == (3, "provider-auth")
