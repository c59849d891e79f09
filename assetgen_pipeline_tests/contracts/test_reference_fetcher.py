"""What stages may rely on, of whatever fetches references."""

import asyncio
import ssl
from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest

from assetgen_pipeline.adapters.fetch_slots import FetchSlots, SlottedReferenceFetcher
from assetgen_pipeline.adapters.http_reference_fetcher import HttpReferenceFetcher
from assetgen_pipeline.domain.errors import ReferenceBlocked, ReferenceUnfetched
from assetgen_pipeline.domain.references import FetchedBytes, NotModified, Validators
from assetgen_pipeline.testing.references import ScriptedReferenceFetcher

TAG = Validators(etag='"v1"')
ANSWERS = {
    "/image": b'HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nETag: "v1"\r\nContent-Length: 3\r\n\r\nPNG',
    "/gone": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    "/busy": b"HTTP/1.1 503 Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n",
    "/inside": b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n",
}


async def handle(reader, writer):
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    answer = ANSWERS[head.split(" ", 2)[1]]
    if 'If-None-Match: "v1"' in head:
        answer = b"HTTP/1.1 304 Not Modified\r\n\r\n"
    writer.write(answer)
    await writer.drain()
    writer.close()


class Scripted(ScriptedReferenceFetcher):
    """The fake, with a script that answers as the server does."""

    async def fetch(self, url, *, known=None):
        answer = await super().fetch(url, known=known)
        return NotModified() if known == TAG else answer


@asynccontextmanager
async def http(tmp_path):
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    fetcher = HttpReferenceFetcher(
        allowed_networks=[ip_network("127.0.0.0/8")],
        ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        timeout_s=60,
    )
    async with server:
        yield fetcher, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await fetcher.aclose()


@asynccontextmanager
async def slotted(tmp_path):
    async with http(tmp_path) as (fetcher, url):
        yield SlottedReferenceFetcher(fetcher, FetchSlots(tmp_path, slots=4)), url


@asynccontextmanager
async def scripted(tmp_path):
    url = "https://a.example"
    yield (
        Scripted(
            {
                f"{url}/image": FetchedBytes(data=b"PNG", content_type="image/png", validators=TAG),
                f"{url}/busy": ReferenceUnfetched("busy", retryable=True, retry_after_s=7.0),
                f"{url}/inside": ReferenceBlocked("inside"),
            }
        ),
        url,
    )


@pytest.fixture(params=[http, slotted, scripted])
def opened(request, tmp_path):
    return request.param(tmp_path)


async def test_bytes_come_as_they_are_with_what_identifies_them(opened):
    async with opened as (fetcher, url):
        answer = await fetcher.fetch(f"{url}/image")

    assert answer == FetchedBytes(data=b"PNG", content_type="image/png", validators=TAG)


async def test_what_is_known_and_stands_is_not_sent_again(opened):
    async with opened as (fetcher, url):
        assert await fetcher.fetch(f"{url}/image", known=TAG) == NotModified()


async def test_what_is_not_there_is_final(opened):
    async with opened as (fetcher, url):
        with pytest.raises(ReferenceUnfetched) as failure:
            await fetcher.fetch(f"{url}/gone")

    assert (failure.value.retryable, failure.value.code) == (False, "reference-unavailable")


async def test_a_busy_server_may_be_asked_again_when_it_says(opened):
    async with opened as (fetcher, url):
        with pytest.raises(ReferenceUnfetched) as failure:
            await fetcher.fetch(f"{url}/busy")

    assert (failure.value.retryable, failure.value.retry_after_s) == (True, 7.0)


async def test_what_policy_refuses_is_blocked_and_not_unfetched(opened):
    async with opened as (fetcher, url):
        with pytest.raises(ReferenceBlocked) as refusal:
            await fetcher.fetch(f"{url}/inside")

    assert refusal.value.code == "reference-blocked"


async def test_many_fetch_at_once_and_nobody_has_waited_where_there_is_room(opened):
    async with opened as (fetcher, url):
        answers = await asyncio.gather(*(fetcher.fetch(f"{url}/image") for _ in range(4)))

        assert {answer.data for answer in answers} == {b"PNG"}
        assert fetcher.waited_s >= 0
