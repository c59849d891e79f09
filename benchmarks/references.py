"""What fetching references costs: requests, peak, time against the ideal, memory. JSON lines.

A server of its own process sends images after a while; everything else is what a deployment
runs: guard, slots, decode workers, the local bucket. `references.py [IMAGES]`.
"""

import asyncio
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network
from pathlib import Path

import httpx
from PIL import Image

from assetgen_pipeline.adapters.fetch_slots import FetchSlots, SlottedReferenceFetcher
from assetgen_pipeline.adapters.http_reference_fetcher import HttpReferenceFetcher
from assetgen_pipeline.adapters.pillow_images import PillowImageCodec
from assetgen_pipeline.adapters.system_clock import SystemClock
from assetgen_pipeline.domain.image_request import (
    AspectRatio,
    BatchRequests,
    ImageRequest,
    ReferenceMode,
)
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.fetch_history import FetchHistory
from assetgen_pipeline.stages.fetch_references import FetchedChunk, FetchPolicy, fetch_chunk
from assetgen_pipeline.stages.merge_references import decide, unique_urls
from assetgen_pipeline.stages.reference_shelf import ReferenceShelf
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.wiring.bucket import open_object_store

AT_ONCE = 4
CHUNK = 500
LOOPBACK = (ip_network("127.0.0.0/8"),)
PREDECESSOR_S_PER_ROW = 0.62


def photograph(bytes_wanted):
    """A JPEG of about that size, 1,024 x 768: noise over a gradient, as a photograph has."""
    noise = random.Random(1)
    small = Image.frombytes("RGB", (256, 192), noise.randbytes(256 * 192 * 3))
    image = Image.blend(
        small.resize((1024, 768), Image.Resampling.BICUBIC),
        Image.linear_gradient("L").resize((1024, 768)).convert("RGB"),
        0.5,
    )
    for quality in range(60, 100):
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality)
        if out.tell() >= bytes_wanted:
            break
    return out.getvalue()


class Server:
    """Sends one photograph under many hashes, after `wait_s`; counts on request."""

    def __init__(self, wait_s, image, tagged):
        self.wait_s, self.image, self.tagged = wait_s, image, tagged
        self.requests = self.open = self.peak = 0

    async def handle(self, reader, writer):
        """One connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1]
                if path == b"/counts":
                    body = json.dumps({"requests": self.requests, "peak": self.peak}).encode()
                    self.requests = self.peak = 0
                else:
                    body = await self.body(path)
                tag = b'ETag: "' + path[1:] + b'"\r\n' if self.tagged else b""
                status = b"200 OK"
                if self.tagged and b"if-none-match" in head.lower():
                    status, body = b"304 Not Modified", b""
                writer.write(
                    b"HTTP/1.1 %s\r\nContent-Type: image/jpeg\r\n%sContent-Length: %d\r\n\r\n%s"
                    % (status, tag, len(body), body)
                )
                await writer.drain()
                if b"connection: close" in head.lower():
                    break
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    async def body(self, path):
        """The photograph of a path, when its time has come."""
        self.requests += 1
        self.open += 1
        self.peak = max(self.peak, self.open)
        if self.wait_s:
            await asyncio.sleep(self.wait_s)
        self.open -= 1
        # A comment makes the bytes unique and their decoding the same.
        return (
            self.image[:2]
            + b"\xff\xfe"
            + (len(path) + 2).to_bytes(2, "big")
            + path
            + self.image[2:]
        )


async def serve(wait_s, size, tagged):
    handler = Server(wait_s, photograph(size), tagged)
    server = await asyncio.start_server(handler.handle, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


@contextmanager
def server(wait_s, size, *, tagged=False):
    command = [sys.executable, __file__, "serve", str(wait_s), str(size), str(int(tagged))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def counts(url):
    return httpx.get(f"{url}/counts", trust_env=False).json()


def a_batch(rows, urls_of):
    return BatchRequests(
        batch_id="bench.references.0a1b2c3d",
        owner="bench",
        mode="normal",
        header=("scene_id", "prompt"),
        requests=tuple(
            ImageRequest(
                row_number=n + 1,
                line=n + 2,
                scene_id=f"S{n}",
                prompt=f"scene {n}",
                variants=1,
                reference_urls=urls_of(n),
                reference_mode=ReferenceMode.STYLE_ONLY,
                ref_pack_id="",
                aspect_ratio=AspectRatio.SQUARE,
                cells=(f"S{n}", f"scene {n}"),
            )
            for n in range(rows)
        ),
        received_at="2026-01-05T12:00:00+00:00",
    )


async def fetch_batch(batch, *, store, codec, home):
    """As the asset graph does it: chunk by chunk, each artifact once through JSON."""
    urls, chunks, history = unique_urls(batch), [], FetchHistory()
    for first in range(0, len(urls), CHUNK):
        shelf = ReferenceShelf(batch.owner, store=store, codec=codec)
        fetcher = SlottedReferenceFetcher(
            HttpReferenceFetcher(allowed_networks=LOOPBACK), FetchSlots(home, slots=AT_ONCE)
        )
        chunk, learnt = await fetch_chunk(
            urls[first : first + CHUNK],
            first=first,
            shelf=shelf,
            fetcher=fetcher,
            clock=SystemClock(),
            policy=FetchPolicy(concurrency=AT_ONCE),
            history=history,
        )
        await fetcher.aclose()
        shelf.remember()
        history = FetchHistory(
            spent_s=history.spent_s + learnt.spent_s, failures=history.failures | learnt.failures
        )
        chunks.append(FetchedChunk.model_validate_json(chunk.model_dump_json()))
    decision = decide(batch, chunks, {})
    return type(decision).model_validate_json(decision.model_dump_json())


async def at_once(urls, fetch):
    """`fetch` on every URL, four at once."""
    queue = iter(urls)

    async def work():
        for url in queue:
            await fetch(url)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def bare(urls):
    """The loop that a hurried colleague would write: no guard, no decode, nothing kept."""
    async with httpx.AsyncClient(trust_env=False) as client:
        await at_once(urls, client.get)


async def guarded(urls):
    """Guard, cap and deadline, without decoding or storing."""
    fetcher = HttpReferenceFetcher(allowed_networks=LOOPBACK)
    await at_once(urls, fetcher.fetch)
    await fetcher.aclose()


def seconds(work):
    began = time.monotonic()
    result = asyncio.run(work)
    return time.monotonic() - began, result


class NoBucket(InMemoryObjectStore):
    """Keeps what is written about images, and not the images."""

    def create(self, name, data, **options):
        """Store nothing but the name."""
        return super().create(name, data[:1], **options)


class Memory:
    """The most that this process and its decode workers had at one time, in MB."""

    def __init__(self):
        self.own = self.workers = self.together = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _look(self):
        while not self._over.wait(0.1):
            own = resident_mb(os.getpid())
            workers = sum(resident_mb(pid) for pid in children("image_worker"))
            self.own, self.workers = max(self.own, own), max(self.workers, workers)
            self.together = max(self.together, own + workers)


def resident_mb(pid):
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize() / 1e6


def children(name):
    mine = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(
                (entry / "stat").read_text("ascii", "replace").rpartition(")")[2].split()[1]
            )
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == os.getpid() and name.encode() in command:
            mine.append(int(entry.name))
    return mine


def report(**figures):
    rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in figures.items()}
    print(json.dumps(rounded), flush=True)


def real_concurrency(store, home):
    """100 rows of 6 references over 24 URLs, each answered after 100 ms."""
    rows, unique, wait_s = 100, 24, 0.1
    with server(wait_s, 20_000) as url, PillowImageCodec() as codec:
        batch = a_batch(rows, lambda n: tuple(f"{url}/{(n * 6 + k) % unique}" for k in range(6)))
        loop_s, _ = seconds(guarded(unique_urls(batch)))
        counts(url)
        took, decision = seconds(fetch_batch(batch, store=store, codec=codec, home=home))
        seen = counts(url)
    ideal = unique / AT_ONCE * wait_s
    report(
        benchmark="100 rows x 6 references over 24 URLs, 100 ms each",
        requests=seen["requests"],
        peak_at_once=seen["peak"],
        fetched=decision.fetched,
        seconds=took,
        ideal_seconds=ideal,
        ratio_to_ideal=took / ideal,
        fetches_alone_seconds=loop_s,
        ratio_to_fetches_alone=took / loop_s,
        predecessor_seconds=rows * PREDECESSOR_S_PER_ROW,
    )


def many(store, home, images):
    """Twice as many rows as images of 200 kB."""
    with server(0, 200_000, tagged=True) as url:
        urls = [f"{url}/{n}" for n in range(images)]
        batch = a_batch(images * 2, lambda n: (urls[n % images],))
        bare_s, _ = seconds(bare(urls))
        guarded_s, _ = seconds(guarded(urls))
        counts(url)
        with Memory() as memory, PillowImageCodec() as codec:
            took, decision = seconds(fetch_batch(batch, store=store, codec=codec, home=home))
            seen = counts(url)
            again_s, again = seconds(fetch_batch(batch, store=store, codec=codec, home=home))
            elsewhere = NoBucket("assetgen-local")
            no_bucket_s, _ = seconds(fetch_batch(batch, store=elsewhere, codec=codec, home=home))
    report(
        benchmark=f"{images * 2} rows over {images} images of 200 kB",
        requests=seen["requests"],
        peak_at_once=seen["peak"],
        fetched=decision.fetched,
        seconds=took,
        images_per_second=images / took,
        peak_mb=memory.own,
        decode_workers_peak_mb=memory.workers,
        together_peak_mb=memory.together,
        bare_httpx_seconds=bare_s,
        guarded_fetch_seconds=guarded_s,
        ratio_to_bare_httpx=took / bare_s,
        ratio_of_guarded_fetch_to_bare_httpx=guarded_s / bare_s,
        without_bucket_seconds=no_bucket_s,
        ratio_without_bucket_to_bare_httpx=no_bucket_s / bare_s,
        again_seconds=again_s,
        again_revalidated=again.revalidated,
    )


def main(images):
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = stack.enter_context(open_object_store(load_settings(home=home)))
        for _ in range(3):
            real_concurrency(store, home / "slots")
        many(store, home / "slots", images)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(float(sys.argv[2]), int(sys.argv[3]), tagged=sys.argv[4] == "1"))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 5_000)
