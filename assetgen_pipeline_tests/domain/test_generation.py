import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetgen_pipeline.domain.generation import (
    FAILURE_RULES,
    Billing,
    ErrorKind,
    PlannedImage,
    ProviderError,
    image_id_of,
    plan_images,
    plan_shards,
)
from assetgen_pipeline.domain.image_request import AspectRatio, ReferenceMode
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.problems import PROBLEM_CODES
from assetgen_pipeline_tests.builders import (
    a_batch,
    a_decision,
    a_reference,
    an_image_request,
    row_references,
)


def plan(*requests, references=None, model="renderer"):
    decision = a_decision(
        *(references or [row_references(request.scene_id) for request in requests])
    )
    return plan_images(a_batch(*requests), decision, provider="local", model=model)


def an_image(**changes):
    (image,) = plan(an_image_request())
    return image.model_copy(update=changes)


def test_every_variant_of_every_row_is_planned_in_order():
    images = plan(an_image_request("A", variants=2), an_image_request("B", row_number=2))

    assert [image.item_key for image in images] == ["A/1", "A/2", "B/1"]
    assert all(image.image_id == image_id_of(image) for image in images)


def test_a_row_whose_references_were_refused_plans_nothing():
    references = [row_references("A", failure_code="reference-blocked"), row_references("B")]

    images = plan(an_image_request("A"), an_image_request("B", row_number=2), references=references)

    assert [image.scene_id for image in images] == ["B"]


def test_an_image_carries_the_references_that_were_decided():
    references = [row_references(used=(a_reference(),))]

    assert plan(an_image_request(), references=references)[0].references == (a_reference(),)


@pytest.mark.parametrize(
    "change",
    [
        {"provider": "gemini"},
        {"model": "other"},
        {"prompt": "a living room"},
        {"aspect_ratio": AspectRatio.LANDSCAPE},
        {"references": (a_reference("b"),)},
        {"options": '{"quality": "high"}'},
        {"variant": 2},
    ],
)
def test_what_shapes_an_image_is_part_of_its_address(change):
    assert image_id_of(an_image(**change)) != image_id_of(an_image())


def test_what_references_are_for_shapes_an_image_only_where_there_are_some():
    mode = {"reference_mode": ReferenceMode.STYLE_AND_COMPOSITION}
    some = {"references": (a_reference(),)}

    assert image_id_of(an_image(**some, **mode)) != image_id_of(an_image(**some))
    assert image_id_of(an_image(**mode)) == image_id_of(an_image())


@pytest.mark.parametrize("change", [{"scene_id": "Z"}, {"row_number": 9}])
def test_where_an_image_belongs_is_not(change):
    assert image_id_of(an_image(**change)) == image_id_of(an_image())


def test_the_order_of_references_shapes_an_image():
    one, two = a_reference("a"), a_reference("b")

    assert image_id_of(an_image(references=(one, two))) != image_id_of(
        an_image(references=(two, one))
    )


@pytest.mark.parametrize(
    ("ratio", "pixels"),
    [("1:1", (1024, 1024)), ("16:9", (1024, 576)), ("9:16", (576, 1024)), ("4:3", (1024, 768))],
)
def test_the_long_edge_is_1024_px(ratio, pixels):
    assert an_image(aspect_ratio=AspectRatio(ratio)).size_px == pixels


def planned(row_number, image_id):
    return PlannedImage.model_validate(
        an_image().model_dump() | {"row_number": row_number, "image_id": image_id}
    )


def test_shards_hold_the_rows_asked_for():
    images = plan(
        *(an_image_request(f"S{n}", row_number=n, prompt=f"p{n}", variants=2) for n in range(1, 6))
    )

    shards = plan_shards(images, shard_rows=2)

    assert [[image.row_number for image in shard] for shard in shards] == [
        [1, 1, 2, 2],
        [3, 3, 4, 4],
        [5, 5],
    ]
    assert plan_shards((), shard_rows=2) == ()


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 7))
def test_shards_lose_no_image_and_never_part_one_address(addresses, shard_rows):
    images = [planned(number, str(address)) for number, address in enumerate(addresses)]

    shards = plan_shards(images, shard_rows=shard_rows)

    assert sorted(i.row_number for shard in shards for i in shard) == list(range(len(images)))
    homes = [{image.image_id for image in shard} for shard in shards]
    assert sum(len(home) for home in homes) == len(set(addresses))
    assert all(shards)


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_every_kind_of_failure_has_a_code_for_people(kind):
    error = ProviderError("x", kind=kind)

    assert error.code.startswith("provider-")
    assert "assetgen retry BATCH" in error.fix
    assert error.billing is FAILURE_RULES[kind].billing


def test_a_failure_says_what_it_cost_and_when_to_come_back():
    error = ProviderError(
        "x", kind=ErrorKind.NO_OUTPUT, billing=Billing.BILLED, retry_after_s=2.0, cost=Money(5)
    )

    assert (error.billing, error.retry_after_s, error.cost) == (Billing.BILLED, 2.0, Money(5))


def test_planned_images_carry_what_the_catalogue_has_sent_along():
    batch, decision = a_batch(an_image_request()), a_decision(row_references())

    [image] = plan_images(batch, decision, provider="openai", model="m", options="{}")

    assert image.options == "{}"


def test_an_outcome_that_nobody_knows_is_never_taken_for_free():
    error = ProviderError("x", kind=ErrorKind.UNKNOWN_OUTCOME)

    assert error.billing is Billing.MAYBE


def test_every_kind_of_failure_has_a_rule_and_a_problem_code():
    assert set(FAILURE_RULES) == set(ErrorKind)
    assert {rule.code for rule in FAILURE_RULES.values()} <= set(PROBLEM_CODES)


def test_what_stops_the_batch_is_never_tried_again():
    assert all(rule.retries == 0 for rule in FAILURE_RULES.values() if rule.stops)


def test_a_batch_asks_for_the_variants_of_all_its_rows():
    assert a_batch(an_image_request(variants=3), an_image_request("B")).images_requested == 4
