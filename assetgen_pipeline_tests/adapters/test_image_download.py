"""Downloading a paid image: the endpoint is trusted, the rest of the world is not."""

import asyncio
import contextlib

import pytest

from assetgen_pipeline.adapters.image_download import DownloadFailed, ImageDownload
from assetgen_pipeline.domain.errors import ReferenceUnfetched
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.references import ScriptedReferenceFetcher

ELSEWHERE = "https://images.example/1.png"


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def download(httpserver, clock):
    made = ImageDownload(httpserver.url_for("/v1"), clock=clock)
    yield made
    await made.aclose()


async def test_the_endpoint_may_be_on_this_machine(httpserver, download):
    httpserver.expect_request("/a.png").respond_with_data(b"picture")

    assert await download.fetch(httpserver.url_for("/a.png")) == b"picture"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/a.png",
        "https://127.0.0.1:{own}/a.png",
        "http://169.254.169.254/a.png",
        "http://metadata.google.internal/a.png",
        "http://user@127.0.0.1:{own}/a.png",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "gs://bucket/a.png",
        "http://[::1/a.png",
        "/a.png",
        "https://images.example/\ud800.png",
    ],
)
async def test_no_other_address_inside_is_reached(httpserver, download, url):
    url = url.format(port=httpserver.port + 1, own=httpserver.port)

    with pytest.raises(DownloadFailed) as caught:
        await download.fetch(url)

    assert caught.value.blocked
    assert httpserver.log == []


async def test_redirects_of_the_endpoint_are_not_followed(httpserver, download):
    httpserver.expect_request("/a.png").respond_with_data(
        status=302, headers={"Location": "http://169.254.169.254/"}
    )

    with pytest.raises(DownloadFailed):
        await download.fetch(httpserver.url_for("/a.png"))

    assert len(httpserver.log) == 1


async def test_a_failing_server_is_asked_three_times_with_pauses(httpserver, download, clock):
    httpserver.expect_request("/a.png").respond_with_data(status=500)

    with pytest.raises(DownloadFailed) as caught:
        await download.fetch(httpserver.url_for("/a.png"))

    assert not caught.value.blocked
    assert (len(httpserver.log), clock.sleeps) == (3, [1.0, 2.0])


async def test_a_server_that_is_gone_is_asked_again(clock, httpserver):
    download = ImageDownload("http://127.0.0.1:9", clock=clock)

    with pytest.raises(DownloadFailed):
        await download.fetch("http://127.0.0.1:9/a.png")

    assert clock.sleeps == [1.0, 2.0]
    await download.aclose()


async def test_a_server_that_drips_holds_a_paid_image_for_three_deadlines_at_most(
    clock, monkeypatch
):
    monkeypatch.setattr("assetgen_pipeline.adapters.image_download._TIMEOUT_S", 0.3)
    connections = []

    async def drip(_reader, writer):
        connections.append(asyncio.current_task())
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.transport.abort()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    download = ImageDownload(address, clock=clock)
    async with server:
        with pytest.raises(DownloadFailed):
            await download.fetch(f"{address}/a.png")
        while len(connections) < 3:  # noqa: ASYNC110 - the last may be accepted after its time
            await asyncio.sleep(0.01)

    await download.aclose()
    await asyncio.gather(*connections)
    assert len(connections) == 3


async def test_what_is_larger_than_any_image_is_let_go(httpserver, download, monkeypatch):
    monkeypatch.setattr("assetgen_pipeline.adapters.image_download._MAX_BYTES", 3)
    httpserver.expect_request("/a.png").respond_with_data(b"picture")

    with pytest.raises(DownloadFailed):
        await download.fetch(httpserver.url_for("/a.png"))


async def test_elsewhere_is_fetched_through_the_guard(httpserver, clock):
    fetcher = ScriptedReferenceFetcher({ELSEWHERE: b"picture"})
    download = ImageDownload(httpserver.url_for("/v1"), clock=clock, fetcher=fetcher)

    assert await download.fetch(ELSEWHERE) == b"picture"
    await download.aclose()


@pytest.mark.parametrize(("retryable", "tries"), [(True, 3), (False, 1)])
async def test_elsewhere_is_tried_again_only_where_it_can_help(httpserver, clock, retryable, tries):
    fetcher = ScriptedReferenceFetcher({ELSEWHERE: ReferenceUnfetched("no", retryable=retryable)})
    download = ImageDownload(httpserver.url_for("/v1"), clock=clock, fetcher=fetcher)

    with pytest.raises(DownloadFailed):
        await download.fetch(ELSEWHERE)

    assert len(fetcher.urls) == tries
    await download.aclose()
