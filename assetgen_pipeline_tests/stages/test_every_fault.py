"""Die, or fail, at every single call to the outside: nothing is paid twice, nothing paid is lost.

The steps are counted by a run without faults, so a step that is added tomorrow is tested.
"""

import asyncio
import functools
from dataclasses import replace

import pytest

from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.errors import (
    AssetgenError,
    LedgerUnavailable,
    StorageUnavailable,
)
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError, ProviderImage
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.outcome import ImageStatus
from assetgen_pipeline.stages.close_batch import settle_batch
from assetgen_pipeline.testing.faults import Faults, Killed
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, OWNER, an_image_request
from assetgen_pipeline_tests.stage_bench import Bench

ROWS = (
    an_image_request("S1", row_number=1, prompt="one"),
    an_image_request("S2", row_number=2, prompt="two"),
    an_image_request("S3", row_number=3, prompt="one"),
    an_image_request("S4", row_number=4, prompt="four"),
)
CONCURRENCY = 2
IMAGES = 3  # S1 and S3 ask for the same one.


class Vendor(ScriptedProvider):
    """Answers one item without an image first, and counts what it would bill for."""

    def __init__(self):
        empty = ProviderError("no image came", kind=ErrorKind.NO_OUTPUT)
        down = ProviderError("down", kind=ErrorKind.TRANSIENT)
        image = ProviderImage(data=b"png", cost=Money(1_500), cost_basis="usage")
        super().__init__({"S2/1": [empty, image], "S4/1": [down, image]}, default=[image])
        self.billed = 0

    async def generate(self, image, references, token):
        try:
            answer = await super().generate(image, references, token)
        except ProviderError as error:
            self.billed += error.kind is ErrorKind.NO_OUTPUT
            raise
        self.billed += 1
        return answer


async def generate(bench, faults, vendor):
    """One run of the batch's generation; what ended it early, if anything did."""
    inner = bench.services
    batch = bench.open(*ROWS)
    images_hold = bench.reserve(batch).hold
    bench.services = replace(
        inner, store=faults.wrap("store", bench.store), ledger=faults.wrap("ledger", bench.ledger)
    )
    try:
        await bench.generate(
            batch,
            faults.wrap("provider", vendor),
            decision=bench.decide(batch),
            hold=images_hold,
            concurrency=CONCURRENCY,
        )
    except (Killed, AssetgenError) as ended:
        return ended
    finally:
        bench.services = inner
    return None


@functools.cache
def steps():
    faults = Faults()
    asyncio.run(generate(Bench(), faults, Vendor()))
    return tuple(faults.steps)


def promises_hold(bench, vendor, *, unsent=0):
    """What must be true once the batch was finished, whatever happened on the way."""
    attempts = bench.attempts()
    paid = [a for a in attempts if a.state in {AttemptState.CAPTURED, AttemptState.ASSUMED}]
    charged = [a for a in paid if a.cost_basis != "reused"]
    images = bench.outcome().images
    assert [image.status for image in images] == [ImageStatus.DELIVERED] * 4
    # Whatever the vendor bills for stands in the ledger.
    assert vendor.billed <= len(charged) <= vendor.billed + unsent
    assert bench.ledger.day(OWNER).settled == sum((a.cost for a in paid[1:]), start=paid[0].cost)
    # Whatever is stored is booked to the attempt that made it, and none is without thumbnail.
    for name in bench.names("images/"):
        made_by = bench.store.stat(name).metadata["attempt_id"]
        [attempt] = [a for a in attempts if a.attempt_id == made_by]
        assert (attempt.state, attempt.image.object_name) == (AttemptState.CAPTURED, name)
    for image in images:
        assert bench.store.stat(image.image.thumbnail_name) is not None
    assert bench.broken() == []


async def finish(bench, vendor):
    """What the next run does: settle what the dead one left, reserve, generate."""
    settle_batch(BATCH_ID, services=bench.services)
    assert await generate(bench, Faults(), vendor) is None
    settle_batch(BATCH_ID, services=bench.services)


def test_the_steps_cover_the_way_from_intent_to_capture():
    labels = [label for label in steps() if "took effect" in label]

    for verb in (
        "ledger.intent",
        "provider.generate",
        "store.create",
        "ledger.capture",
        "ledger.void",
        "ledger.assume",
        "ledger.reuse",
    ):
        assert f"{verb} took effect" in labels, verb


def steps_of(port):
    return [label for label in steps() if label.startswith(port)]


@pytest.mark.parametrize("number", range(1, len(steps()) + 1))
async def test_a_process_killed_at_any_step_pays_nothing_twice_and_loses_nothing_paid(number):
    bench, vendor = Bench(), Vendor()
    ended = await generate(bench, Faults(strike_at=number), vendor)
    billed_before = vendor.billed
    stored_before = set(bench.names("images/"))

    await finish(bench, vendor)

    assert isinstance(ended, Killed)
    promises_hold(bench, vendor, unsent=CONCURRENCY)
    # Only what is not in the bucket is asked for again.
    assert vendor.billed - billed_before <= IMAGES + 1 - len(stored_before)


@pytest.mark.parametrize(
    ("port", "number", "error"),
    [
        *(("store", n, StorageUnavailable("down")) for n in range(1, len(steps_of("store")) + 1)),
        *(("ledger", n, LedgerUnavailable("down")) for n in range(1, len(steps_of("ledger")) + 1)),
    ],
)
async def test_a_call_that_fails_at_any_step_pays_nothing_twice_and_loses_nothing_paid(
    port, number, error
):
    bench, vendor = Bench(), Vendor()
    faults = Faults(strike_at=number, only=port, error=error)
    await generate(bench, faults, vendor)
    stored_before = set(bench.names("images/"))
    billed_before = vendor.billed

    await finish(bench, vendor)

    assert len(faults.steps) >= number
    promises_hold(bench, vendor, unsent=CONCURRENCY)
    assert vendor.billed - billed_before <= IMAGES + 1 - len(stored_before)
