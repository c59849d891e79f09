"""Images made for tests, as bytes."""

import io
import struct
import zlib

from PIL import Image

RED, BLUE = (255, 0, 0), (0, 0, 255)


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def plain(kind="PNG", mode="RGB", size=(64, 48), color=RED, **options):
    return saved(Image.new(mode, size, color), kind, **options)


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def scanned_jpeg(scans):
    """A progressive JPEG of 64 x 64 pixels, grey, with so many passes over it."""
    size = struct.pack(">BHHBBBB", 8, 64, 64, 1, 1, 0x11, 0)
    # Codes of one bit: no difference between blocks, and an end of band that 64 blocks share.
    tables = [(0xDB, b"\0" + b"\1" * 64), (0xC2, size)]
    tables += [(0xC4, b"\x00\1" + bytes(15) + b"\0"), (0xC4, b"\x10\1" + bytes(15) + b"\x60")]
    head = b"".join(_segment(marker, body) for marker, body in tables)
    flat, empty = _scan(0, 0, "0" * 64), _scan(1, 63, "0000000")
    return b"\xff\xd8" + head + flat + empty * (scans - 1) + b"\xff\xd9"


def _scan(first, last, bits):
    padded = bits + "1" * (-len(bits) % 8)
    data = bytes(int(padded[at : at + 8], 2) for at in range(0, len(padded), 8))
    return _segment(0xDA, bytes([1, 1, 0, first, last, 0])) + data.replace(b"\xff", b"\xff\0")


def _segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def png(width, height, *chunks):
    """A PNG of a header and chunks, with no pixels to speak of."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 64))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), *chunks, body, chunk(b"IEND", b"")]
    )
