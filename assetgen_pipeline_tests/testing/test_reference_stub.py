"""The stand-in for strangers' servers does what the load test relies on."""

import json
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from assetgen_pipeline.testing.reference_stub import ReferenceStub
from assetgen_pipeline_tests.processes import DEADLINE_S, until


@pytest.fixture
def stub():
    with ReferenceStub(hanging=1, failing=1, latency_s=0.05) as running:
        yield running


def get(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


@contextmanager
def kept_waiting(stub):
    """A client of the address that hangs, which got nothing for a while and still waits."""
    address = urlsplit(stub.urls()["hangs"][0])
    with socket.create_connection((address.hostname, address.port)) as client:
        client.sendall(b"GET /1.png HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: stub.state()["open_hangs"])
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
        yield


def test_one_address_gives_a_real_image_and_one_fails(stub):
    urls = stub.urls()

    assert get(f"{urls['answers'][0]}/1.png").startswith(b"\x89PNG")
    with pytest.raises(urllib.error.HTTPError, match="503"):
        get(f"{urls['fails'][0]}/1.png")


def test_a_hanging_address_says_nothing_and_knows_how_long_the_client_stayed(stub):
    with kept_waiting(stub):
        assert stub.state()["open_hangs"] == 1

    until(lambda: stub.state()["open_hangs"] == 0)
    assert stub.state()["longest_hang_s"] >= 0.2


def test_who_gave_up_is_out_before_the_next_request_is_in_however_late_its_thread(
    stub,
):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stub.began("hangs", ours)
        assert (stub.state()["open_hangs"], stub.state()["peak"]) == (1, 1)

        theirs.close()
        stub.began("answers", theirs)
        stub.ended(ours)

        assert (stub.state()["open_hangs"], stub.state()["peak"]) == (0, 1)


def test_one_that_still_waits_counts_beside_the_next(stub):
    with kept_waiting(stub):
        get(f"{stub.urls()['answers'][0]}/x.png")

        assert stub.state()["peak"] == 2


def test_the_peak_is_the_most_requests_at_once(stub):
    url = f"{stub.urls()['answers'][0]}/x.png"
    everyone = threading.Barrier(3)
    # What a request waits for, it waits for until all three do.
    stub.over.wait = lambda _seconds: everyone.wait(DEADLINE_S)
    threads = [threading.Thread(target=get, args=(url,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert stub.state()["peak"] == 3
    assert stub.state()["counts"] == {"answers": 3}


def test_as_a_process_it_says_where_it_is_and_what_it_was_asked():
    with subprocess.Popen(
        [sys.executable, "-m", "assetgen_pipeline.testing.reference_stub", "--failing", "2"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            urls = json.loads(process.stdout.readline())
            get(f"{urls['answers'][0]}/1.png")
            state = json.loads(get(f"{urls['answers'][0]}/_stub"))
        finally:
            process.terminate()

    assert len(urls["fails"]) == 2
    assert state["counts"] == {"answers": 1}
    assert process.returncode == 0
