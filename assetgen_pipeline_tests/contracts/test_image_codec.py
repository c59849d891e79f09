"""What stages may rely on, of whatever decodes images."""

import io

import pytest
from PIL import Image

from assetgen_pipeline.adapters.pillow_images import PillowImageCodec
from assetgen_pipeline.domain.bucket_layout import suffix_of_type
from assetgen_pipeline.domain.errors import ReferenceUnfetched
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.testing.references import FakeImageCodec


@pytest.fixture(params=["fake", "pillow"])
def codec(request):
    if request.param == "fake":
        yield FakeImageCodec()
    else:
        with PillowImageCodec(workers=1) as pillow:
            yield pillow


@pytest.fixture(scope="module")
def picture():
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(out, "PNG")
    return out.getvalue()


def test_a_reference_is_reencoded_and_described(codec, picture):
    decoded = codec.decode_reference(picture)

    assert decoded.data != picture
    assert decoded.mime_type in suffix_of_type
    assert (decoded.width, decoded.height) == (64, 64)


def test_the_same_bytes_give_the_same_reference(codec, picture):
    assert codec.decode_reference(picture) == codec.decode_reference(picture)


def test_bytes_that_are_no_image_give_none_and_say_so(codec):
    with pytest.raises(ReferenceUnfetched) as refusal:
        codec.decode_reference(b"bad bytes")

    assert refusal.value.code in {"reference-type", "reference-undecodable"}
    assert not refusal.value.retryable


def test_getting_ready_changes_nothing_and_may_be_repeated(codec, picture):
    codec.prepare()
    codec.prepare()

    assert codec.decode_reference(picture).width == 64


def test_a_generated_image_is_described_with_a_thumbnail(codec, picture):
    facts = codec.inspect(picture)

    assert (facts.mime_type, facts.width, facts.height) == ("image/png", 64, 64)
    assert facts.thumbnail


def test_a_generated_image_that_is_none_is_bad_output(codec):
    with pytest.raises(ProviderError) as failure:
        codec.inspect(b"bad bytes")

    assert failure.value.kind is ErrorKind.BAD_OUTPUT
