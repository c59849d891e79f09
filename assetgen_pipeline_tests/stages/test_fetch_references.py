"""One chunk of URLs: fetched, tried again, kept, and what is said of it."""

import hashlib
import threading

import pytest

from assetgen_pipeline.domain.errors import ReferenceBlocked, ReferenceUnfetched, StorageUnavailable
from assetgen_pipeline.domain.references import Blocked, Fetched, NotModified, Unfetched
from assetgen_pipeline.stages.fetch_references import FetchedChunk, chunk_summary
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.testing.references import ScriptedReferenceFetcher
from assetgen_pipeline_tests.reference_desk import A, B, C, Desk, again, sent


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
    script = dict.fromkeys(urls, b"image")
    desk = Desk(fetcher=ScriptedReferenceFetcher(script, together=4))

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


async def test_a_bucket_that_is_down_stops_the_stage():
    desk = Desk({A: b"image"})
    desk.store.fail_next("create")

    with pytest.raises(StorageUnavailable):
        await desk.fetch(A)


async def test_a_chunk_survives_the_trip_between_steps_and_names_no_url():
    secret = "https://a.example/1.png?X-Goog-Signature=CANARY"
    chunk = (await Desk({A: b"image", B: ReferenceBlocked("inside")}).fetch(A, B, C, secret)).chunk

    text = chunk.model_dump_json()
    assert FetchedChunk.model_validate_json(text) == chunk
    assert "CANARY" not in text


async def test_decoding_and_storing_go_on_while_others_are_fetched():
    urls = [f"https://host{number}.example/" for number in range(8)]
    held = threading.Event()

    class SlowToStore(InMemoryObjectStore):
        def create(self, name, data, **options):
            # Until the second four have been asked for as well.
            assert held.wait(60)
            return super().create(name, data, **options)

    class Notes(ScriptedReferenceFetcher):
        async def fetch(self, url, *, known=None):
            if len(self.urls) == 7:
                held.set()
            return await super().fetch(url, known=known)

    desk = Desk(store=SlowToStore(), fetcher=Notes({url: url.encode() for url in urls}))

    result = await desk.fetch(*urls)

    assert all(isinstance(outcome, Fetched) for outcome in result.outcomes.values())
    assert desk.fetcher.peak <= 4


async def test_the_log_line_counts_what_became_of_the_urls():
    script = {A: [sent(b"image", '"v1"'), NotModified()], B: ReferenceBlocked("inside")}
    desk = Desk(script)
    await desk.fetch(A)

    line = chunk_summary(await desk.chunk(A, B, C))

    assert line == (
        "3 URLs: 1 fetched (1 of them unchanged), 1 unfetched, 1 blocked; 3 requests,"
        " 0.0 s of waiting for this machine's fetch slots"
    )
