"""Generating one shard: paid once, stored, and booked one by one."""

import asyncio

import pytest

from assetgen_pipeline.domain.bucket_layout import image_name, thumbnail_name
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.errors import HoldNotOpen, ObjectMissing, StorageUnavailable
from assetgen_pipeline.domain.generation import (
    Billing,
    ErrorKind,
    ProviderError,
    ProviderImage,
    plan_images,
)
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.domain.outcome import ImageStatus
from assetgen_pipeline.ports import ImageProvider
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import (
    BATCH_ID,
    BUCKET,
    OWNER,
    RUN_ID,
    a_decision,
    a_reference,
    an_image_request,
    row_references,
)
from assetgen_pipeline_tests.stage_bench import MODEL, ONE_IMAGE, PROVIDER, Bench, some_requests

STOPS = {
    ErrorKind.AUTH: "provider-auth",
    ErrorKind.QUOTA_EXHAUSTED: "provider-quota",
    ErrorKind.FATAL_CONFIG: "provider-config",
}
OTHER_BATCH = "studio.summer.0123abcd"
OTHER_OWNERS_BATCH = "agency.spring.0123abcd"


def an_answer(data=b"png", *, cost=1_500, **changes):
    return ProviderImage(data=data, cost=Money(cost), cost_basis="usage", **changes)


def an_error(kind, **changes):
    return ProviderError("it did not work", kind=kind, **changes)


def always(outcome):
    return ScriptedProvider(default=[outcome])


def statuses(bench):
    return [image.status for image in bench.outcome().images]


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
    assert (report.images, report.generated, report.stopped_by) == (1, 1, "")


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


@pytest.mark.parametrize(
    ("kind", "backoffs", "code", "status"),
    [
        (ErrorKind.TRANSIENT, [1, 2, 4, 8], "provider-unavailable", ImageStatus.FAILED),
        (
            ErrorKind.RATE_LIMITED,
            [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60],
            "provider-rate-limited",
            ImageStatus.FAILED,
        ),
        (
            ErrorKind.OVERLOADED,
            [1, 2, 4, 8, 16, 32, 60, 60],
            "provider-unavailable",
            ImageStatus.FAILED,
        ),
        (ErrorKind.UNKNOWN_OUTCOME, [1], "provider-unavailable", ImageStatus.FAILED),
        (ErrorKind.NO_OUTPUT, [1], "provider-rejected", ImageStatus.FAILED),
        (ErrorKind.BAD_OUTPUT, [1], "provider-rejected", ImageStatus.FAILED),
        (ErrorKind.CONTENT_BLOCKED, [], "provider-blocked", ImageStatus.BLOCKED),
        (ErrorKind.INVALID_REQUEST, [], "provider-rejected", ImageStatus.FAILED),
        (ErrorKind.AUTH, [], "provider-auth", ImageStatus.FAILED),
        (ErrorKind.QUOTA_EXHAUSTED, [], "provider-quota", ImageStatus.FAILED),
        (ErrorKind.FATAL_CONFIG, [], "provider-config", ImageStatus.FAILED),
    ],
)
async def test_each_kind_of_failure_has_its_retries_its_waits_and_its_effect_on_the_row(
    kind, backoffs, code, status
):
    bench = Bench()
    batch = bench.open()
    provider = always(an_error(kind))

    report = await bench.generate(batch, provider)

    [image] = bench.outcome().images
    assert bench.clock.sleeps == backoffs
    assert len(provider.requests) == len(bench.attempts()) == len(backoffs) + 1
    assert (image.status, image.code, image.attempts) == (status, code, len(backoffs) + 1)
    assert (report.failed, report.generated) == (1, 0)
    assert report.stopped_by == STOPS.get(kind, "")


def test_the_table_of_failures_names_every_kind():
    [mark] = [
        mark
        for mark in test_each_kind_of_failure_has_its_retries_its_waits_and_its_effect_on_the_row.pytestmark
        if mark.name == "parametrize"
    ]

    assert {case[0] for case in mark.args[1]} == set(ErrorKind)


@pytest.mark.parametrize(
    ("asked", "waited"), [(0.0, 0.0), (7.5, 7.5), (60.0, 60.0), (3_600.0, 60.0)]
)
async def test_the_providers_own_wait_is_kept_up_to_a_minute(asked, waited):
    bench = Bench()
    limited = an_error(ErrorKind.RATE_LIMITED, retry_after_s=asked)
    provider = ScriptedProvider(default=[limited, an_answer()])

    report = await bench.generate(bench.open(), provider)

    assert bench.clock.sleeps == [waited]
    assert report.generated == 1


async def test_each_kind_of_failure_counts_its_own_retries():
    bench = Bench()
    mixed = [
        an_error(ErrorKind.NO_OUTPUT),
        an_error(ErrorKind.TRANSIENT),
        an_error(ErrorKind.TRANSIENT),
        an_answer(),
    ]

    report = await bench.generate(bench.open(), ScriptedProvider(default=mixed))

    assert bench.clock.sleeps == [1, 1, 2]
    assert report.generated == 1
    assert statuses(bench) == [ImageStatus.DELIVERED]


@pytest.mark.parametrize(
    ("billing", "cost", "state", "booked", "basis"),
    [
        (Billing.NOT_BILLED, None, AttemptState.VOIDED, None, "none"),
        (Billing.NOT_BILLED, Money(900), AttemptState.VOIDED, None, "none"),
        (Billing.BILLED, Money(900), AttemptState.CAPTURED, Money(900), "usage"),
        (Billing.BILLED, ZERO, AttemptState.CAPTURED, ZERO, "usage"),
        (Billing.BILLED, None, AttemptState.ASSUMED, ONE_IMAGE, "assumed"),
        (Billing.MAYBE, None, AttemptState.ASSUMED, ONE_IMAGE, "assumed"),
        (Billing.MAYBE, Money(900), AttemptState.ASSUMED, ONE_IMAGE, "assumed"),
    ],
)
async def test_a_failed_attempt_is_booked_as_far_as_its_bill_is_known(
    billing, cost, state, booked, basis
):
    bench = Bench()
    batch = bench.open()
    failure = an_error(ErrorKind.INVALID_REQUEST, billing=billing, cost=cost)

    await bench.generate(batch, always(failure))

    [attempt] = bench.attempts()
    assert (attempt.state, attempt.cost, attempt.cost_basis) == (state, booked, basis)
    assert (attempt.code, attempt.detail) == ("provider-rejected", "it did not work")
    assert bench.ledger.day(OWNER).settled == (booked or ZERO)
    assert bench.ledger.day(OWNER).held == ONE_IMAGE - (booked or ZERO)


async def test_an_answer_that_is_no_image_is_paid_and_tried_once_more():
    bench = Bench()
    provider = ScriptedProvider(default=[an_answer(b"bad bytes"), an_answer(b"good")])

    report = await bench.generate(bench.open(), provider)

    first, second = bench.attempts()
    assert (first.state, first.cost, first.image) == (AttemptState.CAPTURED, Money(1_500), None)
    assert first.code == "provider-rejected"
    assert second.image is not None
    assert report.generated == 1
    assert bench.outcome().spent() == Money(3_000)


async def test_what_the_providers_policy_blocked_is_never_asked_again():
    bench = Bench()
    batch = bench.open(*some_requests(2))
    blocked = an_error(ErrorKind.CONTENT_BLOCKED)
    await bench.generate(batch, ScriptedProvider({"S1/1": [blocked]}))
    bench.ledger.settle(BATCH_ID)
    provider = ScriptedProvider()

    report = await bench.generate(batch, provider, run_id="run-2")

    assert provider.requests == []
    assert report.already_delivered == 2
    assert statuses(bench) == [ImageStatus.BLOCKED, ImageStatus.DELIVERED]


async def test_a_failed_image_does_not_hold_up_the_others():
    bench = Bench()
    batch = bench.open(*some_requests(3))
    failure = an_error(ErrorKind.INVALID_REQUEST)

    report = await bench.generate(batch, ScriptedProvider({"S2/1": [failure]}))

    assert statuses(bench) == [ImageStatus.DELIVERED, ImageStatus.FAILED, ImageStatus.DELIVERED]
    assert (report.generated, report.failed, report.not_attempted) == (2, 1, 0)


async def test_a_retry_asks_only_for_what_is_missing():
    bench = Bench()
    batch = bench.open(*some_requests(3))
    failure = an_error(ErrorKind.INVALID_REQUEST)
    await bench.generate(batch, ScriptedProvider({"S2/1": [failure]}))
    bench.ledger.settle(BATCH_ID)
    provider = ScriptedProvider()

    report = await bench.generate(batch, provider, run_id="run-2")

    assert [request.image.item_key for request in provider.requests] == ["S2/1"]
    assert (report.already_delivered, report.generated) == (2, 1)
    assert set(statuses(bench)) == {ImageStatus.DELIVERED}


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
    assert report.stopped_by == code
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
    assert report.stopped_by == "cancelled"
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
    assert report.stopped_by == "provider-auth"


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
    assert report.stopped_by == "cancelled"


async def test_progress_is_told_after_every_image_whatever_became_of_it():
    bench = Bench()
    batch = bench.open(*some_requests(4))
    provider = ScriptedProvider({"S2/1": [an_error(ErrorKind.AUTH)]})
    seen = []

    await bench.generate(
        batch, provider, concurrency=1, on_progress=lambda: seen.append(len(bench.attempts()))
    )

    assert seen == [1, 2, 2, 2]


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


@pytest.mark.parametrize("limit", [1, 3, 8])
async def test_no_more_than_the_set_number_of_calls_is_in_flight(limit):
    bench = Bench()
    batch = bench.open(*some_requests(20))
    everyone = asyncio.Event()

    class Crowd(ScriptedProvider):
        """Lets nobody through until `limit` calls are in flight."""

        async def generate(self, image, references, token):
            if self.in_flight + 1 >= limit:
                everyone.set()
            return await super().generate(image, references, token)

    provider = Crowd(hold=everyone)
    report = await bench.generate(batch, provider, concurrency=limit)

    assert provider.peak == limit
    assert report.generated == 20


async def test_an_image_that_cannot_be_stored_is_booked_as_paid_and_the_shard_ends():
    bench = Bench()
    batch = bench.open(*some_requests(3))
    bench.store.fail_next("create")
    provider = always(an_answer(cost=1_234))

    report = await bench.generate(batch, provider, concurrency=1)

    [attempt] = bench.attempts()
    assert (attempt.state, attempt.cost) == (AttemptState.CAPTURED, Money(1_234))
    assert (attempt.image, attempt.code) == (None, "storage-unavailable")
    assert (report.failed, report.not_attempted) == (1, 2)
    assert report.stopped_by == "storage-unavailable"
    assert len(provider.requests) == 1
    assert bench.clock.sleeps == []


async def test_a_thumbnail_that_cannot_be_stored_loses_no_bill():
    class NoThumbnails(InMemoryObjectStore):
        """Takes images and refuses thumbnails."""

        def create(self, name, *args, **kwargs):
            if name.startswith("thumbnails/"):
                raise StorageUnavailable("the bucket was told to be unavailable")
            return super().create(name, *args, **kwargs)

    bench = Bench(store=NoThumbnails(BUCKET))
    batch = bench.open()

    report = await bench.generate(batch, always(an_answer(cost=1_234)))

    [attempt] = bench.attempts()
    assert (attempt.cost, attempt.code) == (Money(1_234), "storage-unavailable")
    assert report.stopped_by == "storage-unavailable"


async def test_a_budget_used_up_while_retrying_stops_the_shard_and_says_so():
    bench = Bench(limit="0.005")
    batch = bench.open(*some_requests(2))
    lost = an_error(ErrorKind.UNKNOWN_OUTCOME, billing=Billing.MAYBE)
    provider = ScriptedProvider({"S1/1": [lost]})

    report = await bench.generate(batch, provider, concurrency=1)

    assert len(provider.requests) == 2
    assert report.stopped_by == "budget-exceeded"
    assert (report.failed, report.not_attempted) == (1, 1)
    assert statuses(bench) == [ImageStatus.FAILED, ImageStatus.NOT_ATTEMPTED]
    assert bench.ledger.day(OWNER).settled == ONE_IMAGE * 2
    assert bench.broken() == []


async def test_an_image_that_the_budget_never_covered_is_not_attempted():
    bench = Bench(limit="0.002")
    hold = bench.reserve(bench.open()).hold
    batch = bench.open(*some_requests(2))
    provider = ScriptedProvider()

    report = await bench.generate(batch, provider, hold=hold, concurrency=1)

    assert len(provider.requests) == 1
    assert (report.generated, report.failed, report.not_attempted) == (1, 0, 1)
    assert report.stopped_by == "budget-exceeded"


async def test_a_retry_after_a_bill_extends_the_hold_within_the_days_limit():
    bench = Bench(limit="0.004")
    lost = an_error(ErrorKind.UNKNOWN_OUTCOME, billing=Billing.MAYBE)
    provider = ScriptedProvider(default=[lost, an_answer(cost=2_000)])

    report = await bench.generate(bench.open(), provider)

    assert report.generated == 1
    assert bench.outcome().spent() == Money(4_000)
    assert bench.outcome().images[0].cost_basis == "assumed"


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
