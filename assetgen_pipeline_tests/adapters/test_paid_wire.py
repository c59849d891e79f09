"""The paid wire: one request per attempt, to one origin, with our headers, whatever asks."""

import gzip

import httpx2
import pytest

from assetgen_pipeline.adapters.paid_wire import PaidWire, WireRefused, open_wire
from assetgen_pipeline.testing.stub_answers import StubAnswer
from assetgen_pipeline_tests.hosted_providers import token

BODY = {"model": "m", "prompt": "a kitchen"}


@pytest.fixture
async def wired(stub):
    wire, client = open_wire(stub.url, timeout_s=30, own_headers={"Authorization": "Bearer ours"})
    async with client:
        yield wire, client


def path(stub):
    return f"{stub.openai_url}/images/generations"


async def test_nothing_leaves_outside_an_attempt(stub, wired):
    _, client = wired

    with pytest.raises(TypeError, match="outside an attempt"):
        await client.post(path(stub), json=BODY)

    assert stub.counts["requests"] == 0


async def test_a_second_request_of_an_attempt_is_refused(stub, wired):
    wire, client = wired
    with wire.attempt(token()) as attempt:
        await client.post(path(stub), json=BODY)
        with pytest.raises(WireRefused):
            await client.post(path(stub), json=BODY)

    assert (stub.counts["requests"], attempt.status, attempt.sent) == (1, 200, True)


async def test_redirects_are_not_followed(stub, wired):
    wire, client = wired
    stub.answer("redirect")

    with wire.attempt(token()):
        response = await client.post(path(stub), json=BODY)

    assert (response.status_code, stub.counts["requests"]) == (307, 1)


async def test_requests_go_to_our_origin_whatever_they_name(stub, wired):
    wire, client = wired

    with wire.attempt(token()):
        response = await client.post("https://api.mtls.example/v1/images/generations", json=BODY)

    assert response.status_code == 200
    assert stub.requests[0].headers["host"] == stub.url.removeprefix("http://")


async def test_headers_that_nobody_chose_are_left_behind(stub, wired):
    wire, client = wired
    headers = {"X-Evil": "1", "OpenAI-Organization": "theirs", "Authorization": "Bearer theirs"}

    with wire.attempt(token()):
        await client.post(path(stub), json=BODY, headers=headers)

    sent = stub.requests[0].headers
    assert sent["authorization"] == "Bearer ours"
    assert sent["accept-encoding"] == "identity"
    assert {"x-evil", "openai-organization"}.isdisjoint(sent)


def compressed(data):
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    return lambda _: StubAnswer(body=gzip.compress(data), headers=headers)


@pytest.fixture
async def narrow(stub):
    """A wire and a client for answers of at most 100,000 bytes."""
    wire = PaidWire(
        httpx2.AsyncHTTPTransport(trust_env=False),
        endpoint=stub.url,
        timeout_s=30,
        max_answer_bytes=100_000,
    )
    async with httpx2.AsyncClient(transport=wire, trust_env=False) as client:
        yield wire, client


async def test_an_answer_larger_than_any_image_is_cut_off(stub, narrow):
    wire, client = narrow
    stub.answer(lambda _: StubAnswer(body=b"x" * 100_001))

    with wire.attempt(token()) as attempt, pytest.raises(WireRefused, match="too large"):
        await client.post(path(stub), json=BODY)

    assert attempt.too_large


async def test_an_answer_that_inflates_beyond_any_image_is_cut_off(stub, narrow):
    wire, client = narrow
    stub.answer(compressed(b"x" * 50_000_000))

    with wire.attempt(token()) as attempt, pytest.raises(WireRefused, match="too large"):
        await client.post(path(stub), json=BODY)

    assert attempt.too_large


async def test_a_small_answer_compressed_against_our_wish_is_read(stub, narrow):
    wire, client = narrow
    stub.answer(compressed(b'{"data": []}'))

    with wire.attempt(token()):
        answer = await client.post(path(stub), json=BODY)

    assert answer.json() == {"data": []}
