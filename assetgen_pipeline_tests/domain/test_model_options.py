from assetgen_pipeline.domain.image_request import AspectRatio
from assetgen_pipeline.domain.model_options import RequestOptions


def test_options_that_choose_nothing_leave_content_addresses_alone():
    assert RequestOptions().fingerprint() == ""


def test_every_choice_is_part_of_the_fingerprint_whatever_its_order():
    one = RequestOptions(quality="high", extra_body={"b": 1, "a": "x"})
    two = RequestOptions(extra_body={"a": "x", "b": 1}, quality="high")

    assert one.fingerprint() == two.fingerprint()
    assert one.fingerprint() != RequestOptions(quality="low").fingerprint()
    assert "1536x1024" in RequestOptions(sizes={AspectRatio.LANDSCAPE: "1536x1024"}).fingerprint()
