"""One line per attempt, with what it was for and what it cost."""

import logging

import pytest

from assetgen_pipeline.domain.budget import AttemptRequest
from assetgen_pipeline.domain.generation import (
    Billing,
    ErrorKind,
    ProviderError,
    ProviderImage,
    plan_images,
)
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.stages.attempt_log import log_attempt
from assetgen_pipeline.testing.providers import ScriptedProvider, small_png
from assetgen_pipeline_tests.builders import BATCH_ID
from assetgen_pipeline_tests.stage_bench import MODEL, ONE_IMAGE, PROVIDER, Bench, some_requests

LOGGER = "assetgen_pipeline.stages.attempt_log"


def lines(caplog):
    return [record for record in caplog.records if record.name == LOGGER]


async def test_every_attempt_of_a_shard_has_one_line_with_its_end_and_cost(caplog):
    caplog.set_level(logging.INFO, LOGGER)
    bench = Bench()
    [image] = images(bench)
    answer = ProviderImage(data=small_png(image), cost=ONE_IMAGE, cost_basis="flat")
    busy = ProviderError("busy", kind=ErrorKind.TRANSIENT)
    provider = ScriptedProvider({"S1/1": [busy, answer]})

    await bench.generate(bench.open(*some_requests(2)), provider)

    ends = sorted((r.scene, r.attempt, r.outcome, r.cost) for r in lines(caplog))
    assert ends == [
        ("S1", 1, "transient", "0.000000"),
        ("S1", 2, "delivered", "0.002000"),
        ("S2", 1, "delivered", "0.002000"),
    ]
    assert {(r.batch, r.owner, r.provider) for r in lines(caplog)} == {
        (BATCH_ID, "studio", "local")
    }
    assert {r.levelname for r in lines(caplog)} == {"INFO", "WARNING"}


@pytest.mark.parametrize(
    ("billing", "cost", "booked"),
    [
        (Billing.NOT_BILLED, None, "0.000000"),
        (Billing.BILLED, Money(700), "0.000700"),
        (Billing.BILLED, None, "0.002000"),
        (Billing.MAYBE, None, "0.002000"),
    ],
)
def test_a_failed_attempt_is_logged_at_what_it_is_booked_at(caplog, billing, cost, booked):
    caplog.set_level(logging.INFO, LOGGER)
    bench = Bench()
    [image] = images(bench)
    hold = bench.reserve(bench.open(*some_requests(1))).hold
    token = bench.ledger.intent(hold, attempt(image))
    failure = ProviderError("lost", kind=ErrorKind.UNKNOWN_OUTCOME, billing=billing, cost=cost)

    log_attempt(image, token, hold, 1_500, failure=failure)

    [line] = lines(caplog)
    assert (line.cost, line.duration, line.code) == (booked, 1.5, "provider-unavailable")


def images(bench):
    batch = bench.open(*some_requests(1))
    return plan_images(batch, bench.decide(batch), provider=PROVIDER, model=MODEL)


def attempt(image):
    return AttemptRequest(
        item_key=image.item_key,
        image_id=image.image_id,
        row_number=1,
        scene_id=image.scene_id,
        variant=1,
        provider=image.provider,
        model=image.model,
        lane="stable",
        run_id="run",
        ceiling=ONE_IMAGE,
    )
