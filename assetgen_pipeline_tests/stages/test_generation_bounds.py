"""How many calls are in flight, and how many images in memory."""

import asyncio
import threading
from dataclasses import replace

import pytest

from assetgen_pipeline.domain.bucket_layout import image_name
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline.testing.references import FakeImageCodec
from assetgen_pipeline_tests.builders import BUCKET, OWNER, an_answer
from assetgen_pipeline_tests.processes import DEADLINE_S
from assetgen_pipeline_tests.stage_bench import Bench, some_requests

PATIENCE_S = DEADLINE_S


@pytest.mark.parametrize("limit", [1, 3, 8])
async def test_no_more_than_the_set_number_of_calls_is_in_flight(limit):
    bench = Bench()
    batch = bench.open(*some_requests(20))
    everyone = asyncio.Event()

    class Crowd(ScriptedProvider):
        """Lets nobody through until `limit` calls are in flight."""

        async def generate(self, image, references, token):
            if self.in_flight + 1 >= limit:
                everyone.set()
            return await super().generate(image, references, token)

    provider = Crowd(hold=everyone)
    report = await bench.generate(batch, provider, concurrency=limit)

    assert provider.peak == limit
    assert report.generated == 20


@pytest.mark.parametrize("limit", [1, 3, 5])
async def test_images_in_flight_and_in_memory_are_together_no_more_than_the_set_number(limit):
    loop = asyncio.get_running_loop()

    class Full(InMemoryObjectStore):
        """Takes no image before as many as may be wait, and everybody else went on."""

        everyone = threading.Barrier(limit)
        stored = 0

        def create(self, name, *args, **kwargs):
            if name.startswith("images/"):
                self.everyone.wait(PATIENCE_S)
                asyncio.run_coroutine_threadsafe(others_go_on(), loop).result(PATIENCE_S)
                self.stored += 1
            return super().create(name, *args, **kwargs)

    class Counting(ScriptedProvider):
        """Notes how many were asked for and are not stored."""

        peak_unstored = 0

        async def generate(self, image, references, token):
            unstored = len(self.requests) + 1 - bench.store.stored
            self.peak_unstored = max(self.peak_unstored, unstored)
            return await super().generate(image, references, token)

    bench, provider = Bench(store=Full(BUCKET)), Counting()
    batch = bench.open(*some_requests(4 * limit))

    report = await bench.generate(batch, provider, concurrency=limit)

    assert report.generated == 4 * limit
    assert provider.peak_unstored == limit


async def others_go_on():
    for _ in range(200):
        await asyncio.sleep(0)


async def test_the_next_image_is_bought_while_the_last_one_is_only_to_be_booked():
    bench = Bench()
    asked_for_the_second = threading.Event()
    seen = []

    class Busy(ScriptedProvider):
        """Tells when the second image is asked for."""

        async def generate(self, image, references, token):
            if image.scene_id == "S2":
                asked_for_the_second.set()
            return await super().generate(image, references, token)

    class Slow:
        """The ledger, which books the first image only after that."""

        def __getattr__(self, verb):
            return getattr(bench.ledger, verb)

        def capture(self, *args, **kwargs):
            seen.append(asked_for_the_second.wait(PATIENCE_S))
            return bench.ledger.capture(*args, **kwargs)

    bench.services = replace(bench.services, ledger=Slow())
    report = await bench.generate(bench.open(*some_requests(2)), Busy(), concurrency=1)

    assert report.generated == 2
    assert seen == [True, True]


class Watched(bytes):
    """Bytes that tell when nobody holds them any more."""

    gone: threading.Event

    def __del__(self):
        self.gone.set()


def watched(data):
    image = Watched(data)
    image.gone = threading.Event()
    return image, image.gone


class Asking(InMemoryObjectStore):
    """Asks, at one verb on one kind of object, whether an image has left memory."""

    gone: threading.Event
    left = None

    def __init__(self, verb, prefix):
        super().__init__(BUCKET)
        self.asks_at = (verb, prefix)

    def read(self, name, **kwargs):
        self.ask("read", name)
        return super().read(name, **kwargs)

    def create(self, name, data, **kwargs):
        self.ask("create", name)
        return super().create(name, bytes(data), **kwargs)

    def ask(self, verb, name):
        if verb == self.asks_at[0] and name.startswith(self.asks_at[1]):
            self.left = self.gone.wait(PATIENCE_S)


class Once(ScriptedProvider):
    """Gives its one image away, and keeps no hold of it."""

    def __init__(self, image):
        super().__init__()
        self.images = [image]

    async def generate(self, image, references, token):
        await super().generate(image, references, token)
        return an_answer(self.images.pop())


async def test_an_image_that_is_stored_has_left_memory_before_its_thumbnail_is():
    bench = Bench(store=Asking("create", "thumbnails/"))
    image, bench.store.gone = watched(b"the bytes")
    provider = Once(image)
    del image

    await bench.generate(bench.open(), provider)

    assert bench.store.left is True


async def test_an_image_that_is_there_already_is_read_once_ours_has_left_memory():
    bench = Bench(store=Asking("read", "images/"))
    batch = bench.open()
    [planned] = bench.plan(batch)
    name = image_name(OWNER, planned.image_id, "image/png")
    bench.store.create(name, b"the first", content_type="image/png")
    image, bench.store.gone = watched(b"the second")
    provider = Once(image)
    del image

    report = await bench.generate(batch, provider)

    assert report.generated == 1
    assert bench.store.left is True


async def test_no_more_images_are_decoded_at_once_than_can_be_without_slowing_one_another():
    class Counting(FakeImageCodec):
        """Waits in each decoding until as many as may be are at it."""

        at_it, peak = 0, 0
        everyone = threading.Barrier(2)
        lock = threading.Lock()

        def inspect(self, data):
            with self.lock:
                self.at_it += 1
                self.peak = max(self.peak, self.at_it)
            self.everyone.wait(PATIENCE_S)
            with self.lock:
                self.at_it -= 1
            return super().inspect(data)

    codec = Counting()
    bench = Bench(codec=codec)

    report = await bench.generate(bench.open(*some_requests(24)), concurrency=6)

    assert report.generated == 24
    assert codec.peak == codec.decoders == 2
