"""Hostile and odd images, all made here: what is taken, what is refused, and what it costs."""

import io
import struct
import subprocess
import sys
import threading
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from assetgen_pipeline.adapters import image_worker, pillow_images
from assetgen_pipeline.adapters.pillow_images import PillowImageCodec
from assetgen_pipeline.domain.errors import ReferenceUnfetched
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture(scope="module")
def codec():
    with PillowImageCodec() as codec:
        yield codec


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def plain(kind="PNG", mode="RGB", size=(64, 48), color=RED, **options):
    return saved(Image.new(mode, size, color), kind, **options)


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width, height, *chunks):
    """A PNG of a header and chunks, with no pixels to speak of."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 64))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), *chunks, body, chunk(b"IEND", b"")]
    )


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
    "APNG": animation("PNG", 3),
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
}
UNDECODABLE = {
    "0 x 0": png(0, 0),
    "PNG cut in half": plain(size=(256, 256))[:120],
    "JPEG without its end": photograph()[: len(photograph()) // 2],
    "bad checksum": bytes(BAD_CRC),
    "PNG that is no PNG": b"\x89PNG\r\n\x1a\n" + bytes(64),
    "JPEG that is no JPEG": b"\xff\xd8\xff" + bytes(64),
    "WebP that is no WebP": b"RIFF\0\0\0\0WEBP" + bytes(64),
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
    assert (image.get_format_mimetype(), image.size) == (mime_type, (64, 48))
    assert b"CANARY" not in decoded.data


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


def test_a_worker_that_dies_loses_its_image_and_no_other(monkeypatch, tmp_path):
    dying = tmp_path / "worker.py"
    dying.write_text("import os, sys; sys.stdin.buffer.read(4); os.kill(os.getpid(), 11)")
    with PillowImageCodec() as codec:
        monkeypatch.setattr(image_worker, "__file__", str(dying))
        with pytest.raises(ReferenceUnfetched) as loss:
            codec.decode_reference(plain())
        monkeypatch.undo()

        assert loss.value.code == "reference-undecodable"
        assert codec.decode_reference(plain()).width == 64


@pytest.mark.parametrize(
    "lie",
    [
        "b''",
        "b'J'",
        "struct.pack('>1sIII', b'J', 64, 48, 1000)",
        "struct.pack('>1sIII', b'J', 64, 48, 2**32 - 1)",
        "struct.pack('>1sIII', b'J', 2**31, 48, 0)",
    ],
)
def test_an_answer_that_cannot_be_is_not_believed(monkeypatch, tmp_path, lie):
    liar = tmp_path / "worker.py"
    liar.write_text(f"import struct, sys; sys.stdin.buffer.read(4); sys.stdout.buffer.write({lie})")
    monkeypatch.setattr(image_worker, "__file__", str(liar))

    with PillowImageCodec() as codec, pytest.raises(ReferenceUnfetched) as refusal:
        codec.decode_reference(plain())

    assert refusal.value.code == "reference-undecodable"


def test_a_worker_that_never_answers_is_killed(monkeypatch, tmp_path):
    silent = tmp_path / "worker.py"
    silent.write_text("import sys; sys.stdin.buffer.read()")
    monkeypatch.setattr(image_worker, "__file__", str(silent))

    with PillowImageCodec(wait_s=0.3) as codec, pytest.raises(ReferenceUnfetched) as refusal:
        codec.decode_reference(plain())

    assert refusal.value.code == "reference-undecodable"


def test_a_worker_that_died_while_idle_costs_nobody_an_image():
    with PillowImageCodec() as codec:
        codec.decode_reference(plain())
        worker = codec._idle[0]
        worker.kill()
        worker.wait()

        assert codec.decode_reference(plain()).width == 64
        assert codec._idle[0].pid != worker.pid


def test_a_worker_is_used_again(codec):
    codec.decode_reference(plain())
    before = {worker.pid for worker in codec._idle}
    codec.decode_reference(plain())

    assert {worker.pid for worker in codec._idle} == before


def test_a_worker_that_ran_out_of_memory_is_replaced(monkeypatch, tmp_path):
    full = tmp_path / "worker.py"
    full.write_text(
        "import struct, sys; sys.stdin.buffer.read(4)\n"
        "sys.stdout.buffer.write(struct.pack('>1sIII', b'X', 0, 0, 0)); sys.stdout.flush()\n"
        "sys.stdin.buffer.read()"
    )
    monkeypatch.setattr(image_worker, "__file__", str(full))
    with PillowImageCodec() as codec:
        with pytest.raises(ReferenceUnfetched):
            codec.decode_reference(plain())

        assert codec._idle == []


def test_four_threads_decode_at_once_with_a_worker_each():
    gate = threading.Barrier(4)

    def decode(number):
        gate.wait()
        return codec.decode_reference(plain(size=(64 + number, 64))).width

    with PillowImageCodec() as codec, ThreadPoolExecutor(4) as threads:
        assert list(threads.map(decode, range(4))) == [64, 65, 66, 67]
        assert len(codec._idle) <= 4


def test_no_worker_is_started_before_there_is_something_to_decode():
    with PillowImageCodec() as codec:
        codec.inspect(plain())

        assert codec._idle == []


def test_a_closed_codec_starts_no_worker():
    codec = PillowImageCodec()
    codec.decode_reference(plain())
    worker = codec._idle[0]
    codec.close()
    codec.close()

    assert worker.returncode is not None
    with pytest.raises(ReferenceUnfetched):
        codec.decode_reference(plain())


def test_a_worker_that_comes_home_after_closing_is_ended():
    codec = PillowImageCodec()
    worker = codec._hire()
    codec.close()
    codec._release(worker, reusable=True)

    assert worker.returncode is not None


def test_an_interrupted_call_ends_its_worker(monkeypatch):
    hired = []

    def interrupted(worker, data, *, wait_s):
        hired.append(worker)
        raise KeyboardInterrupt

    monkeypatch.setattr(pillow_images, "_ask", interrupted)
    with PillowImageCodec() as codec, pytest.raises(KeyboardInterrupt):
        codec.decode_reference(plain())

    assert hired[0].returncode is not None


def test_the_worker_is_limited_and_knows_no_secret(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "CANARY")
    with PillowImageCodec() as codec:
        codec.decode_reference(plain())
        process = Path(f"/proc/{codec._idle[0].pid}")
        limits = (process / "limits").read_text().splitlines()
        known = (process / "environ").read_text()

    lines = {line[:25].strip(): line[25:].split() for line in limits}
    assert lines["Max address space"][0] == str(1 << 30)
    assert lines["Max file size"][0] == "0"
    assert lines["Max cpu time"][0].isdigit()
    assert "CANARY" not in known


def test_a_worker_ends_with_its_parent():
    program = (
        "import sys\n"
        "from assetgen_pipeline.adapters.pillow_images import PillowImageCodec\n"
        "codec = PillowImageCodec()\n"
        "codec.decode_reference(sys.stdin.buffer.read())\n"
        "print(codec._idle[0].pid, flush=True)\n"
        "import os; os.kill(os.getpid(), 9)\n"
    )
    parent = subprocess.run(
        [sys.executable, "-c", program], input=plain(), capture_output=True, check=False
    )
    pid = int(parent.stdout)

    gone = threading.Event()
    for _ in range(200):
        if not _alive(pid):
            break
        gone.wait(0.02)
    assert not _alive(pid)


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_worker_answers_until_its_requests_end(monkeypatch):
    monkeypatch.setattr(image_worker, "_allow_cpu_for_one_image", lambda: None)
    requests = b"".join(
        image_worker.REQUEST.pack(len(data)) + data for data in (plain(), b"<html>", png(1, 1))
    )
    answers = io.BytesIO()

    image_worker.serve(io.BytesIO(requests), answers)

    data = answers.getvalue()
    status, width, height, length = image_worker.ANSWER.unpack(data[: image_worker.ANSWER.size])
    assert (status, width, height) == (b"J", 64, 48)
    rest = data[image_worker.ANSWER.size + length :]
    assert (rest[:1], rest[image_worker.ANSWER.size :][:1]) == (b"T", b"D")


@pytest.mark.parametrize(
    ("error", "status"), [(MemoryError(), b"X"), (RuntimeError(), b"U"), (OSError(), b"U")]
)
def test_whatever_a_decoder_raises_is_an_answer(monkeypatch, error, status):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr(image_worker, "shrink", broken)

    assert image_worker.answer(plain())[:1] == status


@pytest.mark.parametrize(
    ("kind", "mime_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
)
def test_a_generated_image_is_inspected(codec, kind, mime_type):
    facts = codec.inspect(plain(kind, size=(1024, 576)))

    thumbnail = opened(facts.thumbnail)
    assert (facts.mime_type, facts.width, facts.height) == (mime_type, 1024, 576)
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (256, 144))


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


def test_the_worker_ends_by_itself_when_nobody_asks():
    worker = pillow_images._start()
    worker.stdin.close()

    assert worker.wait(timeout=30) == 0
    worker.stdout.close()
