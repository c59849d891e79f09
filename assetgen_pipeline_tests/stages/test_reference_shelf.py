import hashlib
import json

import pytest

from assetgen_pipeline.domain.reference_index import ReferenceIndex
from assetgen_pipeline.domain.references import FetchedBytes, Validators
from assetgen_pipeline.stages.reference_shelf import ReferenceShelf
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.testing.references import FakeImageCodec

URL = "https://a.example/1.png?X-Goog-Signature=CANARY"
INDEX = "references/team/index.json"
V1 = Validators(etag='"v1"')


def came(data=b"image", validators=V1, kind="image/png"):
    return FetchedBytes(data=data, content_type=kind, validators=validators)


def shelf_of(store, owner="team"):
    return ReferenceShelf(owner, store=store, codec=FakeImageCodec())


def filled(store, *urls, data=b"image"):
    shelf = shelf_of(store)
    for url in urls:
        shelf.keep(url, came(data))
    shelf.remember()


def test_an_image_is_kept_under_the_hash_of_what_came():
    store = InMemoryObjectStore()

    reference = shelf_of(store).keep(URL, came())

    sha256 = hashlib.sha256(b"image").hexdigest()
    assert reference.object_name == f"references/team/{sha256}.png"
    assert store.read(reference.object_name) == b"re-encoded:image"


@pytest.mark.parametrize(
    ("kind", "said"),
    [("image/JPEG; q=1", True), ("image/\x1b[2J", True), ("image/png", False), ("", False)],
)
def test_a_server_that_mistakes_the_kind_of_image_is_believed_in_nothing_and_said(
    kind, said, caplog
):
    with caplog.at_level("INFO"):
        reference = shelf_of(InMemoryObjectStore()).keep(URL, came(kind=kind))

    assert reference.mime_type == "image/png"
    assert ("https://a.example/…#" in caplog.text and "is image/png" in caplog.text) is said
    assert "CANARY" not in caplog.text
    assert "\x1b" not in caplog.text


def test_what_a_url_gave_is_known_to_the_next_shelf_of_the_owner_and_to_no_other():
    store = InMemoryObjectStore()
    filled(store, URL)

    assert shelf_of(store).known(URL).validators == V1
    assert shelf_of(store, "rival").known(URL) is None


def test_no_url_stands_in_the_index():
    store = InMemoryObjectStore()
    filled(store, URL)

    text = store.read(INDEX).decode()
    assert hashlib.sha256(URL.encode()).hexdigest() in text
    assert "CANARY" not in text
    assert "a.example" not in text


def test_nothing_is_written_where_nothing_was_learnt():
    store = InMemoryObjectStore()
    shelf = shelf_of(store)
    shelf.keep(URL, came(validators=Validators()))

    shelf.remember()

    assert store.stat(INDEX) is None


def test_what_two_runs_learn_at_once_is_all_kept():
    store = InMemoryObjectStore()
    one, other = shelf_of(store), shelf_of(store)
    one.keep("https://a.example/", came())
    other.keep("https://b.example/", came())
    one.remember()

    other.remember()

    shelf = shelf_of(store)
    assert shelf.known("https://a.example/") is not None
    assert shelf.known("https://b.example/") is not None


def test_a_write_between_look_and_write_is_not_lost():
    class Busy(InMemoryObjectStore):
        overtaken = False

        def write(self, name, data, **options):
            if not self.overtaken:
                self.overtaken = True
                filled(self, "https://b.example/")
            return super().write(name, data, **options)

    store = Busy()
    filled(store, "https://a.example/")

    assert len(ReferenceIndex.model_validate_json(store.read(INDEX)).entries) == 2


def test_an_index_that_goes_while_it_is_read_is_looked_for_again():
    class Vanishing(InMemoryObjectStore):
        def read(self, name, *, generation=None):
            if name == INDEX:
                self.delete(INDEX)
            return super().read(name, generation=generation)

    store = Vanishing()
    filled(store, URL)

    assert shelf_of(store).known(URL) is None


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        json.dumps({"entries": {"a" * 64: {"sha256": "../../rival/x"}}}),
        json.dumps({"entries": {"x": {}}}),
    ],
)
def test_an_index_that_is_not_ours_is_replaced_and_said(text, caplog):
    store = InMemoryObjectStore()
    store.write(INDEX, text.encode(), content_type="application/json")

    filled(store, URL)

    assert "is not an index of ours" in caplog.text
    assert shelf_of(store).known(URL) is not None


def test_an_entry_leads_to_the_owners_folder_whatever_it_says():
    sha256 = "b" * 64
    entry = {
        "sha256": sha256, "mime_type": "image/png", "width": 1, "height": 1,
        "validators": {"etag": "x", "last_modified": ""},
    }  # fmt: skip
    key = hashlib.sha256(URL.encode()).hexdigest()
    store = InMemoryObjectStore()
    store.write(INDEX, json.dumps({"entries": {key: entry}}).encode(), content_type="x")
    store.write(f"references/rival/{sha256}.png", b"secret", content_type="image/png")

    assert shelf_of(store).known(URL) is None


def test_an_object_of_the_bucket_is_decoded_again_only_when_it_changed():
    store = InMemoryObjectStore()
    store.write("packs/fox/1.png", b"old", content_type="image/png")
    shelf = shelf_of(store)
    first = shelf.object("packs/fox/1.png")
    shelf.remember()

    assert shelf_of(store).object("packs/fox/1.png") == first
    assert store.calls.count(("read", "packs/fox/1.png")) == 1

    store.write("packs/fox/1.png", b"new", content_type="image/png")
    assert shelf_of(store).object("packs/fox/1.png") != first
