import hashlib

import pytest

from assetgen_pipeline.domain.references import PackContent
from assetgen_pipeline.stages.reference_packs import load_packs
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.testing.references import FakeImageCodec
from assetgen_pipeline_tests.builders import a_batch, an_image_request


def put(store, name, data=b"image"):
    store.create(name, data, content_type="image/png")


async def packs_of(store, *pack_ids):
    batch = a_batch(*(an_image_request(f"s{n}", ref_pack_id=p) for n, p in enumerate(pack_ids)))
    return await load_packs(batch, store=store, codec=FakeImageCodec())


async def test_the_first_six_images_of_a_pack_are_kept_in_name_order_and_the_rest_is_counted():
    store = InMemoryObjectStore()
    for name in ("b.PNG", "a.jpg", "c.webp", "d.jpeg", "e.png", "f.png", "g.png", "h.png"):
        put(store, f"packs/fox/{name}", name.encode())
    put(store, "packs/fox/README.md")
    put(store, "packs/fox/deeper/0.png")
    put(store, "packs/foxes/0.png")

    pack = (await packs_of(store, "fox", "fox", ""))["fox"]

    hashes = [hashlib.sha256(name).hexdigest() for name in (b"a.jpg", b"b.PNG", b"c.webp")]
    assert [reference.fingerprint for reference in pack.references[:3]] == [
        f"img1:sha256:{sha256}" for sha256 in hashes
    ]
    assert (pack.found, len(pack.references)) == (True, 6)
    assert pack.dropped == ("2 more of packs/fox/: more than 6",)


async def test_an_image_of_a_pack_that_cannot_be_used_is_left_out_said_and_made_up_for(caplog):
    store = InMemoryObjectStore()
    put(store, "packs/fox/1.png", b"bad bytes")
    for number in range(2, 8):
        put(store, f"packs/fox/{number}.png", str(number).encode())

    pack = (await packs_of(store, "fox"))["fox"]

    assert (pack.found, len(pack.references)) == (True, 6)
    assert "packs/fox/1.png is left out: reference-undecodable" in caplog.text
    assert pack.dropped == ("packs/fox/1.png: reference-undecodable: the image cannot be decoded",)


async def test_the_same_image_twice_in_a_pack_takes_one_place():
    store = InMemoryObjectStore()
    put(store, "packs/fox/1.png")
    put(store, "packs/fox/2.png")

    pack = (await packs_of(store, "fox"))["fox"]

    assert len(pack.references) == 1
    assert pack.dropped == ("packs/fox/2.png: same bytes as another image of the pack",)


async def test_a_pack_of_any_size_costs_a_bounded_number_of_looks():
    store = InMemoryObjectStore()
    for number in range(3000):
        put(store, f"packs/fox/{number:04}.png", b"bad bytes")

    pack = (await packs_of(store, "fox"))["fox"]

    assert (pack.found, pack.references, len(pack.dropped)) == (True, (), 51)
    assert sum(verb == "read" for verb, _ in store.calls) == 50


async def test_an_image_of_a_pack_is_decoded_once_and_again_when_it_is_replaced():
    store = InMemoryObjectStore()
    put(store, "packs/fox/1.png", b"old")
    first = await packs_of(store, "fox")
    reads = store.calls.count(("read", "packs/fox/1.png"))

    second = await packs_of(store, "fox")
    assert second == first
    assert store.calls.count(("read", "packs/fox/1.png")) == reads

    store.write("packs/fox/1.png", b"new", content_type="image/png")
    third = await packs_of(store, "fox")
    assert third != first


async def test_a_batch_that_names_no_pack_costs_nothing():
    store = InMemoryObjectStore()

    assert await packs_of(store, "") == {}
    assert store.calls == []


@pytest.mark.parametrize("name", ["moody interiors", "é", "a.b", "x" * 128])
async def test_any_pack_that_a_row_can_name_is_found(name):
    store = InMemoryObjectStore()
    put(store, f"packs/{name}/1.png")

    assert (await packs_of(store, name))[name].found


@pytest.mark.parametrize("pack_id", ["nowhere", "..", ".", "a/b", "x" * 129, "a\n", "a\\b"])
async def test_a_pack_that_does_not_exist_or_cannot_is_not_found(pack_id):
    store = InMemoryObjectStore()
    put(store, "packs/../1.png")
    put(store, "packs/a/b/1.png")

    assert await packs_of(store, pack_id) == {
        pack_id: PackContent(pack_id=pack_id, found=False, references=())
    }
