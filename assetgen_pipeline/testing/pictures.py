"""Small real pictures, made with nothing but the standard library."""

import hashlib
import struct
import zlib


def one_colour_png(width: int, height: int, *, seed: bytes) -> bytes:
    """A PNG of one colour, which `seed` decides."""
    colour = hashlib.sha256(seed).digest()[:3]
    rows = (b"\0" + colour * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, data)
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
