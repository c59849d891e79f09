"""The provider stub: it answers what it is told to, and counts truly."""

import asyncio
import base64
import io
import json
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest
from PIL import Image

from assetgen_pipeline.testing.provider_stub import ProviderStub
from assetgen_pipeline.testing.stub_answers import SHARED, StubAnswer
from assetgen_pipeline.testing.stub_gemini import GEMINI_ANSWERS
from assetgen_pipeline.testing.stub_openai import OPENAI_ANSWERS
from assetgen_pipeline_tests.processes import DEADLINE_S, until

GEMINI_PATHS = (
    "/v1/models/m:generateContent",
    "/v1beta1/projects/p/locations/global/publishers/google/models/m:generateContent",
)
PROMPT = {
    "contents": [{"parts": [{"text": "a kitchen"}]}],
    "generationConfig": {"imageConfig": {"aspectRatio": "16:9"}},
}
ASKED = {"model": "m", "prompt": "a kitchen", "size": "576x1024"}


@pytest.fixture
def stub():
    with ProviderStub() as made:
        yield made


def gemini(stub, path=GEMINI_PATHS[0], **more):
    return httpx.post(stub.url + path, json=PROMPT, timeout=60, trust_env=False, **more)


def openai(stub, **more):
    url = f"{stub.openai_url}/images/generations"
    return httpx.post(url, json=ASKED, timeout=60, trust_env=False, **more)


def decoded(text):
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        image.load()
        return image.size


@pytest.mark.parametrize("path", GEMINI_PATHS)
def test_gemini_is_answered_on_both_of_its_paths(stub, path):
    [candidate] = gemini(stub, path).json()["candidates"]

    assert decoded(candidate["content"]["parts"][0]["inlineData"]["data"]) == (64, 36)


def test_openai_is_answered_with_an_image_of_the_size_asked_for(stub):
    [image] = openai(stub).json()["data"]

    assert decoded(image["b64_json"]) == (36, 64)


def test_openai_edits_are_read_from_multipart_with_their_files_unchanged(stub):
    files = [("image[]", (f"{n}.png", bytes([13, 10, n, 0]), "image/png")) for n in range(2)]

    url = f"{stub.openai_url}/images/edits"
    httpx.post(url, data=ASKED, files=files, timeout=60, trust_env=False)

    [request] = stub.requests
    assert request.references == (b"\r\n\0\0", b"\r\n\1\0")
    assert (request.prompt, request.body["file_fields"]) == ("a kitchen", ("image[]", "image[]"))


def test_queued_answers_come_in_order_and_then_what_always_comes(stub):
    stub.answer("internal", "rate_limited", lambda _: StubAnswer(status=418))
    stub.always("overloaded")

    assert [gemini(stub).status_code for _ in range(4)] == [500, 429, 418, 503]


@pytest.mark.parametrize("name", ["drop", "partial"])
def test_a_connection_can_break_and_the_image_still_counts_as_made(stub, name):
    stub.answer(name)

    with pytest.raises(httpx.RemoteProtocolError):
        openai(stub)

    assert (stub.counts["billed"], stub.counts["images"]) == (1, 1)


def test_half_a_request_of_a_client_that_was_killed_is_none(stub, capfd):
    address = stub.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=60) as client:
        client.sendall(b"POST /v1/models/m:generateContent HTTP/1.1\r\nContent-Length: 99\r\n\r\n{")
        client.shutdown(socket.SHUT_WR)
        answer = client.recv(1)

    assert answer == b""
    assert stub.counts["requests"] == 0
    assert capfd.readouterr().err == ""


def test_a_request_can_wait_for_ever(stub):
    stub.answer("never")

    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{stub.openai_url}/images/generations",
            json=ASKED,
            timeout=httpx.Timeout(60, read=0.2),
            trust_env=False,
        )

    assert until(lambda: stub.counts["billed"]) == 1


def test_a_mix_is_the_same_for_the_same_seed():
    def names(seed):
        with ProviderStub(mix={"internal": 0.3, "rate_limited": 0.3}, seed=seed) as stub:
            return [gemini(stub).status_code for _ in range(20)]

    assert names(1) == names(1) != names(2)
    assert set(names(1)) == {200, 429, 500}


def test_attempts_are_told_apart_by_the_id_that_clients_send(stub):
    stub.answer("internal")
    for _ in range(2):
        gemini(stub, headers={"X-Client-Request-Id": "attempt-1"})

    assert stub.state()["attempts"] == {"attempt-1": ["internal", "ok"]}


async def test_the_peak_counts_requests_in_flight(stub):
    everyone = threading.Barrier(4)

    def together(_request):
        everyone.wait(DEADLINE_S)
        return StubAnswer()

    stub.always(together)
    url = f"{stub.openai_url}/images/generations"
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        await asyncio.gather(*(client.post(url, json=ASKED) for _ in range(8)))

    assert 4 <= stub.peak <= 8


def test_an_answer_that_nobody_knows_is_refused(stub):
    with pytest.raises(ValueError, match="no answer is called 'nonsense'"):
        stub.answer("nonsense")


def test_names_that_both_protocols_share_are_known_to_both():
    assert set(SHARED) <= set(GEMINI_ANSWERS) & set(OPENAI_ANSWERS)


def test_other_paths_are_not_found(stub):
    answer = httpx.post(f"{stub.url}/v1/nothing", json={}, timeout=60, trust_env=False)

    assert answer.status_code == 404


def test_it_runs_as_a_process_that_is_told_and_asked_over_http():
    module = "assetgen_pipeline.testing.provider_stub"
    command = [sys.executable, "-m", module, "--mix", "internal=1.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            path = url + GEMINI_PATHS[0]
            first = httpx.post(path, json=PROMPT, trust_env=False, timeout=60)
            order = {"queue": ["quota"], "mix": {}}
            httpx.post(f"{url}/_stub", content=json.dumps(order), timeout=60, trust_env=False)
            rest = [httpx.post(path, json=PROMPT, trust_env=False, timeout=60) for _ in range(2)]
            state = httpx.get(f"{url}/_stub", timeout=60, trust_env=False).json()
        finally:
            process.send_signal(signal.SIGTERM)
    assert [answer.status_code for answer in (first, *rest)] == [500, 429, 200]
    assert (state["counts"]["requests"], state["counts"]["images"]) == (3, 1)
    assert process.returncode == 0
