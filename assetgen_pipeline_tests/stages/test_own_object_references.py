"""References that are objects of our own bucket, in every spelling."""

import pytest

from assetgen_pipeline.domain.references import Fetched
from assetgen_pipeline.stages import reference_shelf
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline_tests.reference_desk import Desk, put


async def fetch_beside(name, url):
    """Fetch `url` where our own bucket has an object of this name: who was asked, what came."""
    desk = Desk()
    put(desk.store, name)
    return desk, await desk.fetch(url, own_endpoint="http://127.0.0.1:4443")


@pytest.mark.parametrize(
    "url",
    [
        "gs://test-bucket/images/team/ab/my-image.png",
        "https://storage.googleapis.com/test-bucket/images/team/ab/my-image.png",
        "https://storage.googleapis.com/test-bucket/images/team/ab/my%2Dimage.png?X-Goog-Signature=1",
        "https://test-bucket.storage.googleapis.com/images/team/ab/my-image.png",
        "https://TEST-BUCKET.storage.googleapis.com./images/team/ab/my-image.png",
        "https://storage.cloud.google.com/test-bucket/images/team/ab/my-image.png",
        "https://www.googleapis.com/storage/v1/b/test-bucket/o/images%2Fteam%2Fab%2Fmy-image.png?alt=media",
        "http://127.0.0.1:4443/test-bucket/images/team/ab/my-image.png?X-Goog-Expires=1",
    ],
)
async def test_an_object_of_the_owner_is_read_from_the_bucket(url):
    desk, chunk = await fetch_beside("images/team/ab/my-image.png", url)

    assert isinstance(chunk.outcomes[url], Fetched)
    assert (chunk.requests, desk.fetcher.urls) == (0, [])


@pytest.mark.parametrize(
    "url",
    [
        "gs://other-bucket/packs/a/1.png",
        "gs://test-bucket/images/other/ab/1.png",
        "gs://test-bucket/images/team/../other/ab/1.png",
        "https://storage.googleapis.com/test-bucket/images/other/ab/1.png",
        "https://storage.googleapis.com/test-bucket/images/team/%2e%2e/other/ab/1.png",
        "https://test-bucket.storage.googleapis.com/config/pause.json",
        "https://test-bucket.storage.googleapis.com/images/team%2F..%2Fother/1.png",
        "https://storage.cloud.google.com/test-bucket/images/other/ab/1.png",
        "https://www.googleapis.com/storage/v1/b/test-bucket/o/images%2Fother%2Fab%2F1.png?alt=media",
        "http://localhost:4443/test-bucket/images/other/ab/1.png",
        "http://127.0.0.1:4443/storage/v1/b/test-bucket/o/images%2Fother%2Fab%2F1.png?alt=media",
    ],
)
async def test_an_object_of_somebody_else_is_not_read(url):
    desk, chunk = await fetch_beside("images/other/ab/1.png", url)

    assert chunk.outcomes[url].code == "reference-not-permitted"
    assert ("read", "images/other/ab/1.png") not in desk.store.calls
    assert ("stat", "images/other/ab/1.png") not in desk.store.calls
    assert desk.fetcher.urls == []


async def test_another_bucket_on_the_same_host_is_a_strangers_server():
    url = "https://storage.googleapis.com/test-bucket-2/images/team/1.png"
    desk = Desk({url: b"image"})

    chunk = await desk.fetch(url)

    assert chunk.requests == 1


async def test_an_object_that_is_missing_is_unfetched():
    url = "gs://test-bucket/packs/a/1.png"

    chunk = await Desk().fetch(url)

    assert chunk.outcomes[url].detail == "no such object in the bucket"


async def test_an_object_that_goes_while_it_is_read_is_unfetched():
    class Vanishing(InMemoryObjectStore):
        def read(self, name, *, generation=None):
            if name.startswith("packs/"):
                self.delete(name)
            return super().read(name, generation=generation)

    desk = Desk(store=Vanishing())
    url = "gs://test-bucket/packs/a/1.png"
    put(desk.store, "packs/a/1.png")

    chunk = await desk.fetch(url)

    assert chunk.outcomes[url].detail == "no such object in the bucket"


async def test_an_object_that_is_too_large_is_not_read(monkeypatch):
    monkeypatch.setattr(reference_shelf, "_MAX_OBJECT_BYTES", 3)
    desk = Desk()
    put(desk.store, "packs/a/1.png")

    chunk = await desk.fetch("gs://test-bucket/packs/a/1.png")

    assert chunk.outcomes["gs://test-bucket/packs/a/1.png"].code == "reference-too-large"
