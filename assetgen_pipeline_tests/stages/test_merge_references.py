"""The references of a batch, put together."""

from assetgen_pipeline.domain.errors import ReferenceBlocked
from assetgen_pipeline.stages.merge_references import decide, unique_urls
from assetgen_pipeline.stages.reference_packs import load_packs
from assetgen_pipeline.testing.references import FakeImageCodec
from assetgen_pipeline_tests.builders import a_batch, an_image_request
from assetgen_pipeline_tests.reference_desk import A, B, C, Desk, put


def test_each_url_is_fetched_once_in_the_order_of_its_first_mention():
    batch = a_batch(
        an_image_request("1", reference_urls=(B, A)),
        an_image_request("2", reference_urls=(A, C)),
        an_image_request("3"),
    )

    assert unique_urls(batch) == [B, A, C]


async def test_the_decision_counts_what_was_named_and_what_was_had():
    batch = a_batch(
        an_image_request("1", reference_urls=(A, B)),
        an_image_request("2", reference_urls=(A,)),
        an_image_request("3", reference_urls=(C,), ref_pack_id="fox"),
    )
    desk = Desk({A: b"image", C: ReferenceBlocked("inside")})
    put(desk.store, "packs/fox/1.png", b"bad bytes")
    chunks = [await desk.chunk(C, first=2), await desk.chunk(A, B)]

    packs = await load_packs(batch, store=desk.store, codec=FakeImageCodec())
    decision = decide(batch, chunks, packs)

    rows = decision.by_scene()
    assert (len(rows["1"].used), len(rows["1"].unfetched)) == (1, 1)
    assert rows["3"].failure_code == "reference-blocked"
    assert (decision.named, decision.unique_urls) == (4, 3)
    assert (decision.fetched, decision.requests) == (1, 3)
    assert list(decision.packs_dropped) == ["fox"]
