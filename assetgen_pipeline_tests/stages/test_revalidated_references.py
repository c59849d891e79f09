"""What is stored already: its server is asked whether it changed."""

import hashlib

from assetgen_pipeline.domain.references import NotModified, Validators
from assetgen_pipeline.stages.reference_shelf import ReferenceShelf
from assetgen_pipeline.testing.references import FakeImageCodec
from assetgen_pipeline_tests.reference_desk import A, Desk, again, sent


async def test_what_is_stored_already_is_asked_about_and_not_sent_again():
    desk = Desk({A: [sent(b"image", '"v1"', "Mon, 05 Jan 2026 12:00:00 GMT"), NotModified()]})
    first = await desk.fetch(A)
    created = [call for call in desk.store.calls if call[0] == "create"]

    second = await desk.fetch(A)

    assert second.outcomes == first.outcomes
    assert (second.requests, second.chunk.revalidated) == (1, 1)
    assert desk.fetcher.known == [
        None,
        Validators(etag='"v1"', last_modified="Mon, 05 Jan 2026 12:00:00 GMT"),
    ]
    assert [call for call in desk.store.calls if call[0] == "create"] == created


async def test_what_changed_at_its_server_is_taken_anew():
    desk = Desk({A: [sent(b"old", '"v1"'), sent(b"new", '"v2"'), NotModified()]})
    await desk.fetch(A)

    changed = await desk.fetch(A)
    again_ = await desk.fetch(A)

    assert changed.outcomes[A].reference.fingerprint.endswith(hashlib.sha256(b"new").hexdigest())
    assert again_.outcomes == changed.outcomes
    assert desk.fetcher.known[-1] == Validators(etag='"v2"')


async def test_an_image_that_is_gone_from_the_bucket_is_fetched_and_not_asked_about():
    desk = Desk({A: sent(b"image", '"v1"')})
    first = await desk.fetch(A)
    desk.store.delete(first.outcomes[A].reference.object_name)

    second = await desk.fetch(A)

    assert second.outcomes == first.outcomes
    assert desk.fetcher.known == [None, None]
    assert desk.store.stat(first.outcomes[A].reference.object_name) is not None


async def test_a_server_that_says_unchanged_unasked_gives_nothing():
    result = await Desk({A: NotModified()}).fetch(A)

    assert result.outcomes[A].code == "reference-unavailable"


async def test_a_server_that_goes_dark_gives_nothing_though_its_image_is_stored():
    desk = Desk({A: [sent(b"image", '"v1"'), again()]})
    await desk.fetch(A)

    result = await desk.fetch(A)

    assert result.outcomes[A].code == "reference-unavailable"
    assert result.outcomes[A].fingerprint.startswith("url1:sha256:")


async def test_another_owner_has_nothing_to_ask_about():
    desk = Desk({A: sent(b"image", '"v1"')})
    await desk.fetch(A)

    other = ReferenceShelf("rival", store=desk.store, codec=FakeImageCodec())

    assert other.known(A) is None
