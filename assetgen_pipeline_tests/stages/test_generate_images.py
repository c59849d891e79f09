"""Generating one shard: every image stored, and booked one by one."""

import threading

import pytest

from assetgen_pipeline.domain.bucket_layout import image_name, thumbnail_name
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.errors import HoldNotOpen, ObjectMissing, StorageUnavailable
from assetgen_pipeline.domain.generation import (
    ErrorKind,
)
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.ports.images import ImageProvider
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import (
    BUCKET,
    OWNER,
    RUN_ID,
    a_decision,
    a_reference,
    an_answer,
    an_error,
    an_image_request,
    row_references,
)
from assetgen_pipeline_tests.stage_bench import (
    MODEL,
    ONE_IMAGE,
    PROVIDER,
    Bench,
    always,
    some_requests,
    stopped_by,
)


async def test_every_image_is_stored_unchanged_with_its_thumbnail_and_its_exact_cost():
    bench = Bench()
    batch = bench.open()
    provider = always(an_answer(b"the bytes", cost=1_234, request_id="r-1"))

    report = await bench.generate(batch, provider)

    [attempt] = bench.attempts()
    image_id = attempt.image_id
    assert bench.store.read(image_name(OWNER, image_id, "image/png")) == b"the bytes"
    assert bench.store.read(thumbnail_name(OWNER, image_id)) == b"thumbnail:the bytes"
    assert attempt.state is AttemptState.CAPTURED
    assert (attempt.cost, attempt.cost_basis) == (Money(1_234), "usage")
    assert attempt.image.size_bytes == len(b"the bytes")
    assert (report.images, report.generated, stopped_by(report)) == (1, 1, "")


async def test_an_image_object_carries_the_receipt_of_its_attempt_and_no_prompt():
    bench = Bench()
    batch = bench.open(an_image_request(prompt="a secret garden"))

    await bench.generate(batch, always(an_answer(cost=1_234)))

    [attempt] = bench.attempts()
    metadata = bench.store.stat(attempt.image.object_name).metadata
    assert dict(metadata) == {
        "attempt_id": attempt.attempt_id,
        "cost_micros": "1234",
        "cost_basis": "usage",
        "latency_ms": "0",
    }


async def test_one_attempt_is_one_intent_and_one_call():
    bench = Bench()
    batch = bench.open(*some_requests(5, variants=2))
    provider = ScriptedProvider()

    await bench.generate(batch, provider)

    called = [request.token.attempt_id for request in provider.requests]
    assert sorted(called) == sorted(attempt.attempt_id for attempt in bench.attempts())
    assert len(set(called)) == 10


async def test_the_intent_is_committed_before_the_provider_is_called():
    bench = Bench()

    class Looking(ScriptedProvider):
        """Notes what the ledger says at the moment of the call."""

        states = ()

        async def generate(self, image, references, token):
            self.states += tuple(a.state for a in bench.attempts())
            return await super().generate(image, references, token)

    provider = Looking()
    await bench.generate(bench.open(), provider)

    assert provider.states == (AttemptState.INTENT,)


async def test_no_call_is_made_where_the_hold_was_taken_over():
    bench = Bench()
    batch = bench.open()
    stale = bench.reserve(batch).hold
    bench.reserve(batch, run_id="run-2")
    provider = ScriptedProvider()

    with pytest.raises(HoldNotOpen):
        await bench.generate(batch, provider, hold=stale)

    assert provider.requests == []


async def test_references_reach_the_provider_in_the_decisions_order():
    bench = Bench()
    batch = bench.open()
    used = (a_reference("b"), a_reference("a"))
    for reference in used:
        data = reference.object_name[-8:].encode()
        bench.store.create(reference.object_name, data, content_type="image/png")
    provider = ScriptedProvider()

    await bench.generate(batch, provider, decision=a_decision(row_references("S1", used=used)))

    assert provider.requests[0].references == (b"bbbb.png", b"aaaa.png")


async def test_the_references_of_an_image_are_read_at_once():
    class Meeting(InMemoryObjectStore):
        """Answers a read of a reference once all three are under way."""

        all_three = threading.Barrier(3)

        def read(self, name, **kwargs):
            if name.startswith("references/"):
                self.all_three.wait(60)
            return super().read(name, **kwargs)

    bench = Bench(store=Meeting(BUCKET))
    batch = bench.open()
    used = tuple(a_reference(name) for name in "abc")
    for reference in used:
        bench.store.create(reference.object_name, b"x", content_type="image/png")

    report = await bench.generate(batch, decision=a_decision(row_references("S1", used=used)))

    assert report.generated == 1


async def test_a_reference_that_was_purged_stops_the_shard_before_anything_is_paid():
    bench = Bench()
    batch = bench.open()
    decision = a_decision(row_references("S1", used=(a_reference(),)))

    with pytest.raises(ObjectMissing):
        await bench.generate(batch, decision=decision)

    assert bench.attempts() == []


async def test_the_latency_of_a_call_is_booked_whether_it_works_or_not():
    bench = Bench()

    class Slow(ImageProvider):
        """Takes 2.5 seconds, and fails at first."""

        calls = 0

        async def generate(self, image, references, token):
            await bench.clock.sleep(2.5)
            self.calls += 1
            if self.calls == 1:
                raise an_error(ErrorKind.TRANSIENT)
            return an_answer()

        async def aclose(self):
            """Nothing is open."""

    await bench.generate(bench.open(), Slow())

    assert [attempt.latency_ms for attempt in bench.attempts()] == [2_500, 2_500]


TWO_MINUTES_OF_SLOWING_DOWN = 2 + 4 + 8 + 16 + 32 + 60


async def test_a_bucket_that_fails_before_the_call_costs_nothing():
    bench = Bench()
    batch = bench.open()
    reference = a_reference()
    bench.store.create(reference.object_name, b"x", content_type="image/png")
    decision = a_decision(row_references("S1", used=(reference,)))
    bench.store.fail_next("read")
    provider = ScriptedProvider()

    with pytest.raises(StorageUnavailable):
        await bench.generate(batch, provider, decision=decision)

    assert provider.requests == []
    assert bench.attempts() == []


async def test_a_shard_without_images_reports_nothing_done():
    bench = Bench()
    hold = bench.reserve(bench.open()).hold
    provider = ScriptedProvider()

    report = await bench.shard((), provider, hold=hold)

    assert (report.images, report.generated, report.failed) == (0, 0, 0)
    assert provider.requests == []


async def test_every_attempt_names_its_run_lane_model_and_price():
    bench = Bench()

    await bench.generate(bench.open(), lane="canary")

    [attempt] = bench.attempts()
    assert (attempt.run_id, attempt.lane) == (RUN_ID, "canary")
    assert (attempt.provider, attempt.model) == (PROVIDER, MODEL)
    assert attempt.ceiling == ONE_IMAGE
