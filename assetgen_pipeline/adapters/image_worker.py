"""The process that decodes strangers' images: limited, without secrets, and expendable.

Started by `pillow_images` as a script, so it imports Pillow and nothing of ours. It reads
images from stdin and answers on stdout until stdin ends, as it does when the parent dies.
"""

import io
import math
import resource
import struct
import sys
import warnings
from contextlib import suppress
from typing import BinaryIO

# The decoders that we use, so that Pillow does not look for one among all 43.
from PIL import Image, ImageOps, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin

DECODERS = (JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin)

REQUEST = struct.Struct(">I")
ANSWER = struct.Struct(">1sIII")
"""Status, width, height and length of what follows."""
JPEG, PNG = b"J", b"P"
WRONG_TYPE, WRONG_DIMENSIONS, UNDECODABLE, EXHAUSTED = b"T", b"D", b"U", b"X"

MAX_PIXELS = 40_000_000
MAX_SIDE = 16_384
MIN_SIDE = 16
LONG_EDGE_PX = 2048
# A scan of a progressive JPEG takes 60 bytes and goes over every pixel: 64 MiB of them take hours.
# Cameras and encoders write some ten; what is glued on behind an image may look like a few more.
MAX_SCANS = 1_000
_SCAN = b"\xff\xda"
_QUALITY = 90
_CPU_S = 10
_MIB = 1024 * 1024
_MEMORY_BYTES = 1024 * _MIB


class RefusedImage(Exception):
    """Bytes that are not an image we take; `status` is the answer's first byte."""

    def __init__(self, status: bytes) -> None:
        super().__init__(status)
        self.status = status


def sniff(data: bytes) -> str | None:
    """The MIME type that the first bytes claim, of the three that we take."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def open_image(data: bytes, *, min_side: int) -> Image.Image:
    """Read the header, and refuse by type and size before a pixel is decoded.

    Raises:
        RefusedImage: with `WRONG_TYPE`, `WRONG_DIMENSIONS`, or `UNDECODABLE` for too many scans.
    """
    kind = sniff(data)
    if kind is None:
        raise RefusedImage(WRONG_TYPE)
    if kind == "image/jpeg" and data.count(_SCAN) > MAX_SCANS:
        raise RefusedImage(UNDECODABLE)
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RefusedImage(WRONG_DIMENSIONS) from error
    width, height = image.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE or min(image.size) < min_side:
        raise RefusedImage(WRONG_DIMENSIONS)
    # A photograph with a preview or a gain map beside it (MPO) is one image all the same.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise RefusedImage(WRONG_TYPE)
    return image


def shrink(image: Image.Image, long_edge_px: int) -> Image.Image:
    """Decode wholly, turn upright, shrink, and drop everything that is not a pixel."""
    image.draft(None, (long_edge_px, long_edge_px))
    image.load()
    # Every copy of 40 megapixels is 160 MB of the worker's 1 GiB: in place, and converted last.
    ImageOps.exif_transpose(image, in_place=True)
    pixels: Image.Image = image
    if pixels.mode.startswith("I"):
        # 16-bit grey: Pillow's own conversion clips instead of scaling.
        pixels = pixels.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    mode = "RGBA" if pixels.has_transparency_data else "RGB"
    if pixels.mode != mode:
        pixels = pixels.convert(mode)
    pixels.thumbnail((long_edge_px, long_edge_px), Image.Resampling.LANCZOS)
    # Savers write profiles, comments and text that they find here.
    pixels.info.clear()
    return pixels


def encode(image: Image.Image, *, quality: int) -> bytes:
    """PNG where there is transparency, else JPEG."""
    out = io.BytesIO()
    if image.mode == "RGBA":
        image.save(out, "PNG")
    else:
        image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def answer(data: bytes) -> bytes:
    """One image's answer, header and payload."""
    try:
        image = shrink(open_image(data, min_side=MIN_SIDE), LONG_EDGE_PX)
        payload = encode(image, quality=_QUALITY)
    except RefusedImage as refused:
        return ANSWER.pack(refused.status, 0, 0, 0)
    except MemoryError:
        return ANSWER.pack(EXHAUSTED, 0, 0, 0)
    except Exception:  # noqa: BLE001 - decoders raise anything at hostile bytes
        return ANSWER.pack(UNDECODABLE, 0, 0, 0)
    status = PNG if image.mode == "RGBA" else JPEG
    return ANSWER.pack(status, *image.size, len(payload)) + payload


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the requests end."""
    while len(head := requests.read(REQUEST.size)) == REQUEST.size:
        data = requests.read(REQUEST.unpack(head)[0])
        _allow_cpu_for_one_image()
        answers.write(answer(data))
        answers.flush()


def _limit_process() -> None:
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    for limit, value in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        # macOS refuses some of them; the checks before decoding stay.
        with suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, value))


def _allow_cpu_for_one_image() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    allowed = math.ceil(used.ru_utime + used.ru_stime) + _CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (allowed, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    _limit_process()
    serve(sys.stdin.buffer, sys.stdout.buffer)
