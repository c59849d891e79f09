"""Hostile and odd images, all made here: what is taken, what is refused, and what is made of it."""

import io
import os
import threading
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image, PngImagePlugin

from assetgen_pipeline.adapters import image_worker
from assetgen_pipeline.adapters.pillow_images import PillowImageCodec
from assetgen_pipeline.domain.errors import ReferenceUnfetched
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline_tests.made_images import BLUE, RED, chunk, plain, png, saved, scanned_jpeg


@pytest.fixture(scope="module")
def codec():
    with PillowImageCodec() as codec:
        yield codec


def zipped():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("CANARY.txt", "CANARY")
    return out.getvalue()


def photograph(orientation=1):
    """Left half red, right half blue, 64 wide and 32 high, with a place in its metadata."""
    image = Image.new("RGB", (64, 32), RED)
    image.paste(BLUE, (32, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "CANARY"
    exif.get_ifd(0x8825)[2] = (48.0, 12.0, 30.0)
    return saved(image, "JPEG", quality=95, exif=exif, comment=b"CANARY")


def animation(kind, frames=300):
    images = [Image.new("RGB", (16, 16), (n % 256, n // 256, 0)) for n in range(frames)]
    return saved(images[0], kind, save_all=True, append_images=images[1:])


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


BAD_CRC = bytearray(plain())


BAD_CRC[30] ^= 0xFF


DIMENSIONS = {
    "30000 x 30000 header": png(30_000, 30_000),
    "13000 x 13000": png(13_000, 13_000),
    "1 x 50,000,000": png(1, 50_000_000),
    "16,385 x 1": png(16_385, 1),
    "15 x 64": plain(size=(15, 64)),
    "just over the pixels": png(8000, 5001),
}
TYPE = {
    "empty": b"",
    "one byte": b"\x89",
    "APNG of 300 frames": animation("PNG"),
    "WebP of 300 frames": animation("WEBP"),
    "GIF": animation("GIF"),
    "GIF with script": b"GIF89a/*" + plain("GIF") + b"*/=1;alert(1)",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "SVGZ": zlib.compress(b"<svg/>", wbits=31),
    "PDF": b"%PDF-1.7\n",
    "HTML": b"<!doctype html><script>",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n",
    "PSD": b"8BPS\0\1" + bytes(64),
    "TIFF": plain("TIFF"),
    "BMP": plain("BMP"),
    "ICO": plain("ICO"),
    "FITS": b"SIMPLE  =                    T" + b" " * 3000,
    "MSP": b"DanM" + bytes(64),
    "HEIC": b"\0\0\0\x18ftypheic" + bytes(64),
    "AVIF": b"\0\0\0\x18ftypavif" + bytes(64),
    "JPEG behind a text": b"<svg>" + plain("JPEG"),
}
UNDECODABLE = {
    "0 x 0": png(0, 0),
    "PNG cut in half": plain(size=(256, 256))[:120],
    "JPEG without its end": photograph()[: len(photograph()) // 2],
    "JPEG without its last two bytes": plain("JPEG")[:-2],
    "JPEG of 1,001 scans": scanned_jpeg(image_worker.MAX_SCANS + 1),
    "bad checksum": bytes(BAD_CRC),
    "PNG that is no PNG": b"\x89PNG\r\n\x1a\n" + bytes(64),
    "JPEG that is no JPEG": b"\xff\xd8\xff" + bytes(64),
    "WebP that is no WebP": b"RIFF\0\0\0\0WEBP" + bytes(64),
    "zTXt of 8 MiB": png(64, 64, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(8 << 20)))),
    "100 zTXt": png(64, 64, *[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20)))] * 100),
    "iCCP of 50 MiB": png(64, 64, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(50 << 20)))),
    "zTXt of 64 MiB": png(64, 64, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(64 << 20)))),
}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        *((data, "reference-dimensions") for data in DIMENSIONS.values()),
        *((data, "reference-type") for data in TYPE.values()),
        *((data, "reference-undecodable") for data in UNDECODABLE.values()),
    ],
    ids=[*DIMENSIONS, *TYPE, *UNDECODABLE],
)
def test_what_is_not_an_image_we_take_is_refused_with_the_reason(codec, data, code):
    with pytest.raises(ReferenceUnfetched) as refusal:
        codec.decode_reference(data)

    assert (refusal.value.code, refusal.value.retryable) == (code, False)


ACCEPTED = {
    "PNG": (plain(), "image/jpeg"),
    "JPEG": (plain("JPEG"), "image/jpeg"),
    "WebP": (plain("WEBP"), "image/jpeg"),
    "grey": (plain(mode="L", color=200), "image/jpeg"),
    "bilevel": (plain(mode="1", color=1), "image/jpeg"),
    "CMYK": (plain("JPEG", mode="CMYK", color=(0, 255, 255, 0)), "image/jpeg"),
    "alpha": (plain(mode="RGBA", color=(255, 0, 0, 128)), "image/png"),
    "grey with alpha": (plain(mode="LA", color=(200, 128)), "image/png"),
    "palette": (plain(mode="P", color=3), "image/jpeg"),
    "palette with transparency": (plain(mode="P", color=3, transparency=3), "image/png"),
    "MPO": (
        saved(
            Image.new("RGB", (64, 48), RED),
            "MPO",
            save_all=True,
            append_images=[Image.new("RGB", (64, 48), BLUE)],
        ),
        "image/jpeg",
    ),
    "PNG and ZIP": (plain() + zipped(), "image/jpeg"),
    "PNG and HTML": (plain() + b"<script>CANARY</script>", "image/jpeg"),
    "JPEG and script": (plain("JPEG") + b"<script>CANARY</script>", "image/jpeg"),
}


@pytest.mark.parametrize(("data", "mime_type"), ACCEPTED.values(), ids=ACCEPTED)
def test_an_image_is_reencoded_and_nothing_else_survives(codec, data, mime_type):
    decoded = codec.decode_reference(data)

    image = opened(decoded.data)
    assert (decoded.mime_type, (decoded.width, decoded.height)) == (mime_type, (64, 48))
    assert decoded.source_type == image_worker.sniff(data)
    assert (image.get_format_mimetype(), image.size) == (mime_type, (64, 48))
    assert b"CANARY" not in decoded.data


def test_a_progressive_photograph_is_taken_however_many_scans_its_encoder_made(codec):
    assert codec.decode_reference(scanned_jpeg(64)).source_type == "image/jpeg"
    assert codec.inspect(scanned_jpeg(image_worker.MAX_SCANS)).mime_type == "image/jpeg"


def test_sixteen_bit_grey_is_scaled_and_not_clipped(codec):
    image = Image.new("I;16", (64, 48), 0x8000)

    decoded = codec.decode_reference(saved(image, "PNG"))

    assert opened(decoded.data).getpixel((1, 1))[0] in range(126, 131)


@pytest.mark.parametrize(
    ("orientation", "size", "red_corner"),
    [
        (1, (64, 32), (4, 4)), (2, (64, 32), (60, 4)), (3, (64, 32), (60, 4)), (4, (64, 32), (4, 4)),
        (5, (32, 64), (4, 4)), (6, (32, 64), (4, 4)), (7, (32, 64), (4, 60)), (8, (32, 64), (4, 60)),
    ],
)  # fmt: skip
def test_a_photograph_is_turned_upright_and_forgets_where_it_was(
    codec, orientation, size, red_corner
):
    decoded = codec.decode_reference(photograph(orientation))

    image = opened(decoded.data)
    assert image.size == size
    assert image.getpixel(red_corner)[0] > 200
    assert not image.getexif()
    assert "comment" not in image.info
    assert b"CANARY" not in decoded.data


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_profiles_and_text_are_dropped(codec, mode):
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "CANARY")
    text.add_itxt("XML:com.adobe.xmp", "CANARY")
    data = saved(Image.new(mode, (64, 64)), "PNG", pnginfo=text, icc_profile=b"CANARY" * 99)

    decoded = codec.decode_reference(data)

    assert b"CANARY" not in decoded.data
    assert set(opened(decoded.data).info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_a_large_image_is_made_smaller(codec):
    decoded = codec.decode_reference(plain("JPEG", size=(4096, 1024)))

    assert (decoded.width, decoded.height) == (2048, 512)


@pytest.mark.parametrize(
    ("kind", "mime_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
)
def test_a_generated_image_is_inspected(codec, kind, mime_type):
    facts = codec.inspect(plain(kind, size=(1024, 576)))

    thumbnail = opened(facts.thumbnail)
    assert (facts.mime_type, facts.width, facts.height) == (mime_type, 1024, 576)
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (256, 144))


@pytest.mark.parametrize(("side", "together"), [(5_000, 1), (4_096, 2), (2_048, 4)])
def test_however_many_are_inspected_at_once_few_pixels_are_decoded_together(
    monkeypatch, side, together
):
    data = saved(Image.new("1", (side, side)), "PNG")
    lock, all_in = threading.Lock(), threading.Barrier(together)
    decoding, peak = 0, 0

    def shrink(image, _edge):
        nonlocal decoding, peak
        with lock:
            decoding += 1
            peak = max(peak, decoding)
        # As many as may come in do so: eight are a multiple of each of these numbers.
        all_in.wait(timeout=600)
        for _ in range(1_000):
            os.sched_yield()
        with lock:
            decoding -= 1
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(image_worker, "shrink", shrink)
    with PillowImageCodec() as codec, ThreadPoolExecutor(8) as pool:
        facts = list(pool.map(codec.inspect, [data] * 8))

    assert peak == together if side > 2_048 else peak >= together
    assert {one.width for one in facts} == {side}


def test_an_image_that_cannot_be_decoded_leaves_its_room_to_the_next(codec):
    broken = png(6_000, 6_000)
    for _ in range(3):
        with pytest.raises(ProviderError):
            codec.inspect(broken)

    assert codec.inspect(plain()).width > 0


def test_what_is_transparent_is_white_in_the_thumbnail(codec):
    facts = codec.inspect(plain(mode="RGBA", color=(0, 0, 0, 0)))

    assert opened(facts.thumbnail).getpixel((5, 5)) == (255, 255, 255)


NOT_DELIVERED = {
    name: data
    for name, data in (DIMENSIONS | TYPE | UNDECODABLE).items()
    # Small, but an image.
    if name != "15 x 64"
}


@pytest.mark.parametrize("data", NOT_DELIVERED.values(), ids=NOT_DELIVERED)
def test_a_generated_image_that_we_do_not_deliver_is_bad_output(codec, data):
    with pytest.raises(ProviderError) as failure:
        codec.inspect(data)

    assert failure.value.kind is ErrorKind.BAD_OUTPUT
