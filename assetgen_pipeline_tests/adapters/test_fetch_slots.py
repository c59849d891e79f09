"""The limit of fetches at once, with real processes at a real server."""

import asyncio
import contextlib
import logging
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from assetgen_pipeline.adapters import fetch_slots
from assetgen_pipeline.adapters.fetch_slots import FetchSlots, SlottedReferenceFetcher
from assetgen_pipeline.domain.errors import ReferenceUnfetched
from assetgen_pipeline.domain.references import Validators
from assetgen_pipeline.testing.references import ScriptedReferenceFetcher

URL = "https://a.example/"
SCRIPT = Path(__file__).with_name("slot_user.py")


class CountingServer:
    """Answers a while after four were asked at once; `peak` is the most that were."""

    def __init__(self, wait_s):
        self.wait_s = wait_s
        self.open = self.peak = self.requests = 0
        self.four = asyncio.Event()

    async def handle(self, reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            self.open += 1
            self.peak = max(self.peak, self.open)
            if self.open == 4:
                self.four.set()
            try:
                await self.four.wait()
                await asyncio.sleep(self.wait_s)
            finally:
                # Before the last byte, so that no count outlives its fetch.
                self.open -= 1
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 3\r\n\r\nPNG"
            )
            await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serve(wait_s):
    handler = CountingServer(wait_s)
    server = await asyncio.start_server(handler.handle, "127.0.0.1", 0)
    handler.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.png"
    async with server:
        yield handler


@pytest.fixture
def home(monkeypatch, tmp_path):
    """A deployment of its own, for this process and those that it starts."""
    monkeypatch.setenv("ASSETGEN_HOME", str(tmp_path))
    monkeypatch.setenv("ASSETGEN_REFERENCE_ALLOWED_NETWORKS", "127.0.0.0/8")
    monkeypatch.setenv("ASSETGEN_REFERENCE_TIMEOUT_S", "300")
    return tmp_path


@asynccontextmanager
async def processes(count, url, fetches):
    command = [sys.executable, "-W", "ignore", str(SCRIPT), url, str(fetches)]
    pipe = asyncio.subprocess.PIPE
    started = [
        await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        for _ in range(count)
    ]
    try:
        for process in started:
            assert await process.stdout.readline() == b"ready\n"
        yield started
    finally:
        for process in started:
            if process.returncode is None:
                process.kill()
            await process.wait()


def open_files(folder):
    """How many files of a folder this process has open."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        # The one that the listing itself needs is gone when it is looked at.
        with contextlib.suppress(FileNotFoundError):
            found += entry.readlink().parent == folder
    return found


def go(process):
    process.stdin.write(b"go\n")


async def test_four_processes_that_fetch_at_once_make_four_requests_at_once_and_no_more(home):
    async with serve(0.03) as server, processes(4, server.url, 25) as started:
        for process in started:
            go(process)
        codes = [await process.wait() for process in started]

    assert codes == [0, 0, 0, 0]
    assert (server.requests, server.peak) == (100, 4)


async def test_a_killed_process_holds_no_slot(home):
    async with serve(3600) as tarpit, processes(1, tarpit.url, 4) as [holder]:
        go(holder)
        await tarpit.four.wait()
        slots = FetchSlots(home / "reference-fetches", slots=4)
        assert slots._free_place() is None

        holder.kill()
        await holder.wait()

        async with slots.held(), slots.held(), slots.held(), slots.held():
            assert slots._free_place() is None


async def test_two_fetchers_of_one_process_share_the_slots(tmp_path):
    script = {f"{URL}{number}": b"image" for number in range(20)}
    inner = ScriptedReferenceFetcher(script)
    one, other = (SlottedReferenceFetcher(inner, FetchSlots(tmp_path, slots=2)) for _ in range(2))

    await asyncio.gather(
        *(fetcher.fetch(url) for url in script for fetcher in (one, other)),
    )

    assert (inner.peak, len(inner.urls)) == (2, 40)


async def test_waiting_is_counted_and_said_after_a_while(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(fetch_slots, "_WORTH_SAYING_S", 0.0)
    slots = FetchSlots(tmp_path, slots=1)
    fetcher = SlottedReferenceFetcher(ScriptedReferenceFetcher({URL: b"image"}), slots)
    with caplog.at_level(logging.INFO):
        async with slots.held():
            waiting = asyncio.create_task(fetcher.fetch(URL))
            await asyncio.sleep(0.1)
            assert not waiting.done()
        await waiting

    assert fetcher.waited_s > 0
    assert caplog.text.count("waiting for one of this machine's 1 fetch slots") == 1


async def test_a_slot_is_free_after_a_failure_and_after_a_cancellation(tmp_path):
    slots = FetchSlots(tmp_path, slots=1)
    failing = SlottedReferenceFetcher(ScriptedReferenceFetcher({}), slots)
    with pytest.raises(ReferenceUnfetched):
        await failing.fetch(URL)

    async def hold():
        async with slots.held():
            await asyncio.Event().wait()

    holder = asyncio.create_task(hold())
    await asyncio.sleep(0)
    waiter = asyncio.create_task(failing.fetch(URL))
    await asyncio.sleep(0.05)
    holder.cancel()
    waiter.cancel()
    await asyncio.gather(holder, waiter, return_exceptions=True)

    async with slots.held():
        pass


async def test_what_is_known_and_the_closing_are_passed_on(tmp_path):
    inner = ScriptedReferenceFetcher({URL: b"image"})
    fetcher = SlottedReferenceFetcher(inner, FetchSlots(tmp_path, slots=4))

    await fetcher.fetch(URL, known=Validators(etag="x"))
    await fetcher.aclose()

    assert inner.known == [Validators(etag="x")]
    assert inner.closed


async def test_no_file_stays_open(tmp_path):
    slots = FetchSlots(tmp_path, slots=1)
    async with slots.held():
        assert slots._free_place() is None
        assert open_files(tmp_path) == 1
    assert open_files(tmp_path) == 0
