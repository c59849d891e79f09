"""What every hosted provider keeps to, through the real SDKs against the provider stub."""

import asyncio
from contextlib import aclosing

import pytest

from assetgen_pipeline.domain.generation import Billing, ErrorKind
from assetgen_pipeline_tests.hosted_providers import HOSTED, PNG, ask, failed, planned, token
from assetgen_pipeline_tests.ports import refusing_port

pytestmark = pytest.mark.parametrize("hosted", HOSTED.values(), ids=HOSTED)


@pytest.mark.parametrize(
    ("changes", "references", "says"),
    [
        ({"edits": False}, [PNG], "takes no reference images"),
        ({}, [PNG] * 7, "takes 6 reference images at most"),
        ({"max_request_bytes": 100}, [PNG * 10], "pass what"),
    ],
)
async def test_references_that_would_be_lost_fail_the_image_before_anything_is_sent(
    stub, hosted, changes, references, says
):
    error = await failed(hosted.at(stub, **changes), references=references)

    assert (error.kind, error.billing) == (ErrorKind.INVALID_REQUEST, Billing.NOT_BILLED)
    assert says in str(error)
    assert stub.counts["requests"] == 0


async def test_a_token_is_good_for_one_request(stub, hosted):
    made = token()
    async with aclosing(hosted.at(stub)) as provider:
        await provider.generate(planned(), [], made)
        with pytest.raises(TypeError, match="already had its request"):
            await provider.generate(planned(), [], made)

    assert stub.counts["requests"] == 1


async def test_the_attempt_is_named_to_the_provider(stub, hosted):
    made = token()

    await ask(hosted.at(stub), made=made)

    assert stub.attempts == {made.attempt_id: ["ok"]}


async def test_requests_in_flight_together_are_kept_apart(stub, hosted):
    stub.latency_s = 0.05
    tokens = [token() for _ in range(8)]
    async with aclosing(hosted.at(stub)) as provider:
        images = await asyncio.gather(
            *(provider.generate(planned(f"scene {n}"), [], made) for n, made in enumerate(tokens))
        )

    assert len({image.data for image in images}) == 8
    assert stub.attempts == {made.attempt_id: ["ok"] for made in tokens}


@pytest.mark.parametrize("where", ["refused", "no such host"])
async def test_what_cannot_have_arrived_is_not_billed(hosted, where):
    with refusing_port() as port:
        host = f"127.0.0.1:{port}" if where == "refused" else "nowhere.invalid"
        error = await failed(hosted.open(f"http://{host}{hosted.path}"))

    assert (error.kind, error.billing) == (ErrorKind.TRANSIENT, Billing.NOT_BILLED)
    assert host not in str(error)


async def test_an_error_that_the_catalogue_says_is_billed_counts_as_spent(stub, hosted):
    stub.answer("internal")

    error = await failed(hosted.at(stub, billed_errors=(500,)))

    assert (error.kind, error.billing) == (ErrorKind.TRANSIENT, Billing.MAYBE)
