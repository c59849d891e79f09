"""How an attempt at an image can fail: its tries, its waits, its bill."""

import pytest

from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.generation import (
    Billing,
    ErrorKind,
)
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.domain.outcome import ImageStatus
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import (
    OWNER,
    an_answer,
    an_error,
)
from assetgen_pipeline_tests.stage_bench import (
    ONE_IMAGE,
    STOPS,
    Bench,
    always,
    some_requests,
    statuses,
    stopped_by,
)

TWO_MINUTES_OF_SLOWING_DOWN = 2 + 4 + 8 + 16 + 32 + 60


@pytest.mark.parametrize(
    ("kind", "calls", "waited", "code", "status"),
    [
        (ErrorKind.TRANSIENT, 5, 1 + 2 + 4 + 8, "provider-unavailable", ImageStatus.FAILED),
        (ErrorKind.RATE_LIMITED, 20, 902, "provider-rate-limited", ImageStatus.FAILED),
        (
            ErrorKind.OVERLOADED,
            9,
            TWO_MINUTES_OF_SLOWING_DOWN + 60 + 60,
            "provider-unavailable",
            ImageStatus.FAILED,
        ),
        (ErrorKind.UNKNOWN_OUTCOME, 2, 0, "provider-unavailable", ImageStatus.FAILED),
        (ErrorKind.NO_OUTPUT, 2, 1, "provider-rejected", ImageStatus.FAILED),
        (ErrorKind.BAD_OUTPUT, 2, 1, "provider-rejected", ImageStatus.FAILED),
        (ErrorKind.CONTENT_BLOCKED, 1, 0, "provider-blocked", ImageStatus.BLOCKED),
        (ErrorKind.INVALID_REQUEST, 1, 0, "provider-rejected", ImageStatus.FAILED),
        (ErrorKind.AUTH, 1, 0, "provider-auth", ImageStatus.FAILED),
        (ErrorKind.QUOTA_EXHAUSTED, 1, 0, "provider-quota", ImageStatus.FAILED),
        (ErrorKind.FATAL_CONFIG, 1, 0, "provider-config", ImageStatus.FAILED),
    ],
)
async def test_each_kind_of_failure_has_its_tries_its_waits_and_its_effect_on_the_row(
    kind, calls, waited, code, status
):
    bench = Bench()
    batch = bench.open()
    provider = always(an_error(kind))

    report = await bench.generate(batch, provider)

    [image] = bench.outcome().images
    assert len(provider.requests) == len(bench.attempts()) == calls
    assert sum(bench.clock.sleeps) == pytest.approx(waited)
    assert (image.status, image.code, image.attempts) == (status, code, calls)
    assert (report.failed, report.generated) == (1, 0)
    stops = {**STOPS, ErrorKind.RATE_LIMITED: "provider-rate-limited"}
    assert stopped_by(report) == stops.get(kind, "")


def test_the_table_of_failures_names_every_kind():
    [mark] = [
        mark
        for mark in test_each_kind_of_failure_has_its_tries_its_waits_and_its_effect_on_the_row.pytestmark
        if mark.name == "parametrize"
    ]

    assert {case[0] for case in mark.args[1]} == set(ErrorKind)


@pytest.mark.parametrize("asked", [0.0, 7.5, 60.0, 900.0])
@pytest.mark.parametrize(
    "kind", [ErrorKind.RATE_LIMITED, ErrorKind.OVERLOADED, ErrorKind.TRANSIENT]
)
async def test_the_providers_own_wait_is_kept_to_the_second(kind, asked):
    bench = Bench()
    limited = an_error(kind, retry_after_s=asked)
    provider = ScriptedProvider(default=[limited, an_answer()])

    report = await bench.generate(bench.open(), provider)

    assert sum(bench.clock.sleeps) == pytest.approx(asked)
    assert report.generated == 1


async def test_a_provider_that_asks_for_more_than_a_quarter_hour_ends_the_batch_instead():
    bench = Bench()
    batch = bench.open(*some_requests(3))
    limited = an_error(ErrorKind.RATE_LIMITED, retry_after_s=3_600.0)

    report = await bench.generate(batch, always(limited), concurrency=1)

    assert (report.failed, report.not_attempted) == (1, 2)
    assert stopped_by(report) == "provider-rate-limited"
    assert bench.clock.sleeps == []


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


async def test_a_failed_image_does_not_hold_up_the_others():
    bench = Bench()
    batch = bench.open(*some_requests(3))
    failure = an_error(ErrorKind.INVALID_REQUEST)

    report = await bench.generate(batch, ScriptedProvider({"S2/1": [failure]}))

    assert statuses(bench) == [ImageStatus.DELIVERED, ImageStatus.FAILED, ImageStatus.DELIVERED]
    assert (report.generated, report.failed, report.not_attempted) == (2, 1, 0)


async def test_unknown_outcomes_have_their_second_try_after_everything_else():
    bench = Bench()
    batch = bench.open(*some_requests(4))
    lost = an_error(ErrorKind.UNKNOWN_OUTCOME)
    provider = ScriptedProvider({"S1/1": [lost, an_answer()], "S2/1": [lost]})

    report = await bench.generate(batch, provider, concurrency=1)

    called = [request.image.item_key for request in provider.requests]
    assert called == ["S1/1", "S2/1", "S3/1", "S4/1", "S1/1", "S2/1"]
    assert (report.generated, report.failed) == (3, 1)
