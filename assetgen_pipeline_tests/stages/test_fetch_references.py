import hashlib

import pytest

from assetgen_pipeline.domain.errors import (
    ReferenceBlocked,
    ReferenceUnfetched,
    StorageUnavailable,
)
from assetgen_pipeline.domain.image_request import (
    AspectRatio,
    BatchRequests,
    ImageRequest,
    ReferenceMode,
)
from assetgen_pipeline.domain.references import Blocked, Fetched, PackContent, Unfetched
from assetgen_pipeline.stages import fetch_references
from assetgen_pipeline.stages.fetch_references import (
    FetchedChunk,
    FetchPolicy,
    decide,
    fetch_chunk,
    load_packs,
    plan_reference_chunks,
)
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.testing.references import FakeImageCodec, ScriptedReferenceFetcher

A, B, C = "https://a.example/1.png", "https://b.example/2.png", "https://c.example/3.png"


def row(scene="s1", urls=(), pack=""):
    return ImageRequest(
        row_number=1,
        line=2,
        scene_id=scene,
        prompt="a fox",
        variants=1,
        reference_urls=tuple(urls),
        reference_mode=ReferenceMode.STYLE_ONLY,
        ref_pack_id=pack,
        aspect_ratio=AspectRatio.SQUARE,
        cells=(),
    )


def batch_of(*rows):
    return BatchRequests(
        batch_id="team.demo.0a1b2c3d",
        owner="team",
        mode="normal",
        header=("scene_id", "prompt"),
        requests=rows,
        received_at="2026-01-05T12:00:00+00:00",
    )


def again(retry_after_s=None):
    return ReferenceUnfetched("down", retryable=True, retry_after_s=retry_after_s)


class Desk:
    """What one fetch needs, with the results in reach."""

    def __init__(self, script=(), store=None):
        self.fetcher = ScriptedReferenceFetcher(dict(script))
        self.store = store or InMemoryObjectStore()
        self.clock = ManualClock()

    async def fetch(self, *urls, **policy):
        return await fetch_chunk(
            urls,
            owner="team",
            fetcher=self.fetcher,
            codec=FakeImageCodec(),
            store=self.store,
            clock=self.clock,
            policy=FetchPolicy(**policy),
        )


def put(store, name, data=b"image"):
    store.create(name, data, content_type="image/png")


def test_each_url_is_planned_once_in_the_order_of_its_first_mention():
    batch = batch_of(row("1", [B, A]), row("2", [A, C]), row("3"))

    assert plan_reference_chunks(batch, chunk=2) == [[B, A], [C]]


async def test_a_fetched_image_is_kept_reencoded_under_the_hash_of_what_came():
    desk = Desk({A: b"image"})

    chunk = await desk.fetch(A)

    sha256 = hashlib.sha256(b"image").hexdigest()
    reference = chunk.outcomes[A].reference
    assert reference.fingerprint == f"img1:sha256:{sha256}"
    assert reference.object_name == f"references/team/{sha256}.png"
    assert desk.store.read(reference.object_name) == b"re-encoded:image"
    assert chunk.requests == 1


async def test_two_urls_with_the_same_bytes_share_one_object():
    chunk = await Desk({A: b"same", B: b"same"}).fetch(A, B)

    assert chunk.outcomes[A] == chunk.outcomes[B]


async def test_four_fetches_run_at_once_and_no_more():
    urls = [f"https://host{number}.example/" for number in range(40)]
    desk = Desk(dict.fromkeys(urls, b"image"))

    chunk = await desk.fetch(*urls)

    assert desk.fetcher.peak == 4
    assert list(chunk.outcomes) == urls


async def test_a_failure_is_tried_again_after_one_second_and_after_two():
    desk = Desk({A: [again(), again(), b"image"]})

    chunk = await desk.fetch(A)

    assert isinstance(chunk.outcomes[A], Fetched)
    assert (desk.clock.sleeps, chunk.requests) == ([1.0, 2.0], 3)


async def test_after_two_retries_the_row_goes_on_without():
    chunk = await Desk({A: again()}).fetch(A)

    outcome = chunk.outcomes[A]
    assert isinstance(outcome, Unfetched)
    assert outcome.fingerprint.startswith("url1:sha256:")
    assert (outcome.code, outcome.detail, chunk.requests) == ("reference-unavailable", "down", 3)


async def test_more_retries_than_waits_repeat_the_last_wait():
    desk = Desk({A: again()})

    await desk.fetch(A, retries=3)

    assert desk.clock.sleeps == [1.0, 2.0, 2.0]


async def test_a_server_may_ask_for_a_longer_wait_but_not_a_shorter_one_or_an_endless_one():
    desk = Desk({A: [again(30.0), again(0.0), again(86_400.0), b"image"]})

    await desk.fetch(A, retries=3)

    assert desk.clock.sleeps == [30.0, 2.0, 60.0]


async def test_what_cannot_get_better_is_not_tried_again():
    desk = Desk({A: ReferenceUnfetched("huge", code="reference-too-large")})

    chunk = await desk.fetch(A)

    assert (chunk.outcomes[A].code, chunk.requests) == ("reference-too-large", 1)


async def test_bytes_that_are_no_image_leave_the_row_without():
    chunk = await Desk({A: b"bad bytes"}).fetch(A)

    assert chunk.outcomes[A].code == "reference-undecodable"


async def test_a_blocked_url_is_blocked_and_never_the_fallback():
    desk = Desk({A: ReferenceBlocked("inside"), B: b"image"})

    chunk = await desk.fetch(A, B)

    assert chunk.outcomes[A] == Blocked(code="reference-blocked", detail="inside")
    assert isinstance(chunk.outcomes[B], Fetched)
    assert chunk.requests == 2


async def test_a_host_that_fails_three_times_is_asked_no_more():
    dead = [f"https://dead.example/{number}" for number in range(1000)]
    desk = Desk({A: b"image"} | dict.fromkeys(dead, again()))

    chunk = await desk.fetch(*dead, A, concurrency=1)

    assert chunk.requests == 3 * 3 + 1
    assert chunk.outcomes[dead[3]].detail == "its server failed too often in this batch"
    assert isinstance(chunk.outcomes[A], Fetched)


async def test_a_host_given_up_by_others_is_not_tried_again():
    dead = [f"https://dead.example/{number}" for number in range(1000)]
    desk = Desk(dict.fromkeys(dead, again()))

    chunk = await desk.fetch(*dead)

    # Three that failed, and three that had begun meanwhile.
    assert chunk.requests <= 6 * 3


@pytest.mark.parametrize("answer", [b"image", ReferenceUnfetched("404")])
async def test_any_answer_between_two_failures_keeps_the_host(answer):
    urls = [f"https://flaky.example/{number}" for number in range(8)]
    script = dict.fromkeys(urls, again()) | {urls[2]: answer, urls[5]: answer}
    desk = Desk(script)

    chunk = await desk.fetch(*urls, concurrency=1, retries=0)

    assert chunk.requests == 8


async def test_after_the_deadline_nothing_is_asked_and_the_reason_is_said():
    desk = Desk({A: b"image"})

    chunk = await desk.fetch(A, deadline_at_monotonic=0.0)

    assert chunk.requests == 0
    assert chunk.outcomes[A].detail == "the batch's time for references was over"


async def test_nobody_waits_past_the_deadline():
    desk = Desk({A: [again(), again(60.0), b"image"]})

    chunk = await desk.fetch(A, deadline_at_monotonic=10.0)

    assert desk.clock.sleeps == [1.0]
    assert isinstance(chunk.outcomes[A], Unfetched)


@pytest.mark.parametrize(
    "url",
    [
        "gs://test-bucket/images/team/ab/my-image.png",
        "https://storage.googleapis.com/test-bucket/images/team/ab/my-image.png",
        "https://storage.googleapis.com/test-bucket/images/team/ab/my%2Dimage.png?X-Goog-Signature=1",
        "https://test-bucket.storage.googleapis.com/images/team/ab/my-image.png",
        "https://TEST-BUCKET.storage.googleapis.com./images/team/ab/my-image.png",
    ],
)
async def test_an_object_of_the_owner_is_read_from_the_bucket(url):
    desk = Desk()
    put(desk.store, "images/team/ab/my-image.png")

    chunk = await desk.fetch(url)

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
    ],
)
async def test_an_object_of_somebody_else_is_not_read(url):
    desk = Desk()
    put(desk.store, "images/other/ab/1.png")
    before = list(desk.store.calls)

    chunk = await desk.fetch(url)

    assert chunk.outcomes[url].code == "reference-not-permitted"
    assert desk.store.calls == before
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
            self.delete(name)
            return super().read(name, generation=generation)

    desk = Desk(store=Vanishing())
    url = "gs://test-bucket/packs/a/1.png"
    put(desk.store, "packs/a/1.png")

    chunk = await desk.fetch(url)

    assert chunk.outcomes[url].detail == "no such object in the bucket"


async def test_an_object_that_is_too_large_is_not_read(monkeypatch):
    monkeypatch.setattr(fetch_references, "_MAX_OBJECT_BYTES", 3)
    desk = Desk()
    put(desk.store, "packs/a/1.png")

    chunk = await desk.fetch("gs://test-bucket/packs/a/1.png")

    assert chunk.outcomes["gs://test-bucket/packs/a/1.png"].code == "reference-too-large"


async def test_a_bucket_that_is_down_stops_the_stage():
    desk = Desk({A: b"image"})
    desk.store.fail_next("create")

    with pytest.raises(StorageUnavailable):
        await desk.fetch(A)


async def test_a_chunk_survives_the_trip_between_steps():
    chunk = await Desk({A: b"image", B: ReferenceBlocked("inside")}).fetch(A, B, C)

    assert FetchedChunk.model_validate_json(chunk.model_dump_json()) == chunk


def packs_of(store, *pack_ids):
    batch = batch_of(*(row(f"s{n}", pack=pack) for n, pack in enumerate(pack_ids)))
    return load_packs(batch, store=store, codec=FakeImageCodec(), owner="team")


def test_the_first_six_images_of_a_pack_are_kept_in_name_order():
    store = InMemoryObjectStore()
    for name in ("b.PNG", "a.jpg", "c.webp", "d.jpeg", "e.png", "f.png", "g.png"):
        put(store, f"packs/fox/{name}", name.encode())
    put(store, "packs/fox/README.md")
    put(store, "packs/fox/deeper/0.png")
    put(store, "packs/foxes/0.png")

    pack = packs_of(store, "fox", "fox", "")["fox"]

    hashes = [hashlib.sha256(name).hexdigest() for name in (b"a.jpg", b"b.PNG", b"c.webp")]
    assert [reference.fingerprint for reference in pack.references[:3]] == [
        f"img1:sha256:{sha256}" for sha256 in hashes
    ]
    assert (pack.found, len(pack.references)) == (True, 6)


def test_an_image_of_a_pack_that_cannot_be_used_is_left_out_and_said(caplog):
    store = InMemoryObjectStore()
    put(store, "packs/fox/1.png", b"bad bytes")
    put(store, "packs/fox/2.png")

    pack = packs_of(store, "fox")["fox"]

    assert (pack.found, len(pack.references)) == (True, 1)
    assert "packs/fox/1.png is left out: reference-undecodable" in caplog.text


@pytest.mark.parametrize("pack_id", ["nowhere", "..", ".", "a/b", "x" * 101, "a\n", "é"])
def test_a_pack_that_does_not_exist_or_cannot_is_not_found(pack_id):
    store = InMemoryObjectStore()
    put(store, "packs/../1.png")
    put(store, "packs/a/b/1.png")

    assert packs_of(store, pack_id) == {
        pack_id: PackContent(pack_id=pack_id, found=False, references=())
    }


async def test_the_decision_counts_what_was_named_and_what_was_had():
    batch = batch_of(row("1", [A, B]), row("2", [A]), row("3", [C], pack="nowhere"))
    desk = Desk({A: b"image", C: ReferenceBlocked("inside")})
    chunk = await desk.fetch(A, B, C)

    decision = decide(batch, chunk.outcomes, packs_of(desk.store, "nowhere"), chunk.requests)

    rows = decision.by_scene()
    assert (len(rows["1"].used), len(rows["1"].unfetched)) == (1, 1)
    assert rows["3"].failure_code == "reference-blocked"
    assert (decision.named, decision.unique_urls, decision.fetched, decision.requests) == (
        4,
        3,
        1,
        3,
    )
