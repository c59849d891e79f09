"""Images through Pillow: strangers' in a limited process, the provider's in this one.

What a decoder does to the process it runs in is that process's problem: it has no
secrets, little memory, and is replaced. Which images are taken is in `image_worker`, by
their headers: type, pixels, sides, frames and scans are judged before a pixel is decoded,
the provider's as well as strangers'.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from PIL import Image

from assetgen_pipeline.adapters import image_worker
from assetgen_pipeline.domain.errors import ReferenceUnfetched
from assetgen_pipeline.domain.generation import Billing, ErrorKind, InspectedImage, ProviderError
from assetgen_pipeline.domain.references import DecodedReference
from assetgen_pipeline.ports.images import ImageCodec

_MIB = 1024 * 1024
_MAX_ANSWER_BYTES = 64 * _MIB
_MAX_WORKERS = 4
_THUMBNAIL_PX = 256
_THUMBNAIL_QUALITY = 82
_TYPES = {image_worker.JPEG: "image/jpeg", image_worker.PNG: "image/png"}
_REFUSALS = {
    image_worker.WRONG_TYPE: (
        "reference-type",
        "not a single PNG, JPEG or WebP image",
    ),
    image_worker.WRONG_DIMENSIONS: (
        "reference-dimensions",
        (
            f"images need {image_worker.MIN_SIDE} to {image_worker.MAX_SIDE:,} pixels a side"
            f" and at most {image_worker.MAX_PIXELS // 1_000_000} megapixels"
        ),
    ),
}
_UNDECODABLE = ("reference-undecodable", "the image cannot be decoded")


class PillowImageCodec(ImageCodec):
    """Decodes with Pillow; safe to call from many threads, of which `workers` decode at once."""

    def __init__(self, *, workers: int | None = None, wait_s: float = 120.0) -> None:
        """A worker that has not answered after `wait_s` is killed; by default one for each core.

        What limits a decoding is its processor time, `image_worker._CPU_S`: on a busy machine that
        takes many times as long, and an image that is given up is called undecodable for good.
        """
        workers = workers or min(_MAX_WORKERS, os.cpu_count() or 1)
        self._wait_s = wait_s
        self._workers = workers
        self._slots = threading.BoundedSemaphore(workers)
        self._room = _Room(image_worker.MAX_PIXELS)
        self._lock = threading.Lock()
        self._idle: list[subprocess.Popen[bytes]] = []
        self._closed = False

    @property
    def decoders(self) -> int:
        """How many images can be decoded at once: by default one for each core."""
        return self._workers

    def prepare(self) -> None:
        """Start the workers, so that they are ready when the first bytes have come."""
        with self._lock:
            while len(self._idle) < self._workers and not self._closed:
                self._idle.append(_start())

    def decode_reference(self, data: bytes) -> DecodedReference:
        """Decode a stranger's bytes in a limited worker and re-encode them.

        Raises:
            ReferenceUnfetched: with the code that says why it cannot be used.
        """
        with self._slots:
            worker = self._hire()
            try:
                status, width, height, payload = _ask(worker, data, wait_s=self._wait_s)
            except (OSError, EOFError) as error:
                _dismiss(worker)
                code, text = _UNDECODABLE
                raise ReferenceUnfetched(text, code=code) from error
            except BaseException:
                _dismiss(worker)
                raise
            self._release(worker, reusable=status != image_worker.EXHAUSTED)
        if status not in _TYPES:
            code, text = _REFUSALS.get(status, _UNDECODABLE)
            raise ReferenceUnfetched(text, code=code)
        return DecodedReference(
            data=payload,
            mime_type=_TYPES[status],
            width=width,
            height=height,
            source_type=image_worker.sniff(data) or "",
        )

    def inspect(self, data: bytes) -> InspectedImage:
        """Decode a provider's image once: its facts and its thumbnail.

        However many call at once, no more pixels are decoded together than one image may have.

        Raises:
            ProviderError: of kind `bad_output`; not an image that we deliver.
        """
        try:
            image = image_worker.open_image(data, min_side=1)
            width, height = image.size
            with self._room.taken(width * height):
                small = image_worker.shrink(image, _THUMBNAIL_PX)
            if small.mode == "RGBA":
                small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small)
            thumbnail = image_worker.encode(small.convert("RGB"), quality=_THUMBNAIL_QUALITY)
        except Exception as error:  # decoders raise anything at bad bytes
            raise ProviderError(
                "the provider's answer is not a PNG, JPEG or WebP image that can be decoded",
                kind=ErrorKind.BAD_OUTPUT,
                billing=Billing.BILLED,
            ) from error
        return InspectedImage(
            mime_type=image_worker.sniff(data) or "",
            width=width,
            height=height,
            thumbnail=thumbnail,
        )

    def close(self) -> None:
        """End the workers; the codec decodes no reference afterwards."""
        with self._lock:
            self._closed = True
            workers, self._idle = self._idle, []
        for worker in workers:
            _dismiss(worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _hire(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise ReferenceUnfetched("the decoder is closed", code="reference-undecodable")
            while self._idle:
                worker = self._idle.pop()
                if worker.poll() is None:
                    return worker
                _dismiss(worker)
        return _start()

    def _release(self, worker: subprocess.Popen[bytes], *, reusable: bool) -> None:
        with self._lock:
            if reusable and not self._closed:
                self._idle.append(worker)
                return
        _dismiss(worker)


class _Room:
    """Memory for images that are being decoded, measured in pixels."""

    def __init__(self, pixels: int) -> None:
        self._free = pixels
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Take room for an image, as soon as there is so much."""
        with self._changed:
            self._changed.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify_all()


def _start() -> subprocess.Popen[bytes]:
    # An environment of its own: whatever runs in there finds no key. -P keeps our modules
    # from shadowing the standard library's.
    return subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, "-P", image_worker.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def _ask(
    worker: subprocess.Popen[bytes], data: bytes, *, wait_s: float
) -> tuple[bytes, int, int, bytes]:
    """Send one image and read the answer; the watchdog turns silence into an end of file."""
    assert worker.stdin is not None  # noqa: S101 - for the type checker
    assert worker.stdout is not None  # noqa: S101
    watchdog = threading.Timer(wait_s, worker.kill)
    watchdog.start()
    try:
        worker.stdin.write(image_worker.REQUEST.pack(len(data)))
        worker.stdin.write(data)
        worker.stdin.flush()
        head = worker.stdout.read(image_worker.ANSWER.size)
        if len(head) < image_worker.ANSWER.size:
            raise EOFError
        status, width, height, length = image_worker.ANSWER.unpack(head)
        # What decodes hostile bytes is not believed either.
        if length > _MAX_ANSWER_BYTES or max(width, height) > image_worker.LONG_EDGE_PX:
            raise EOFError
        payload = worker.stdout.read(length)
        if len(payload) < length:
            raise EOFError
    finally:
        watchdog.cancel()
    return status, width, height, payload


def _dismiss(worker: subprocess.Popen[bytes]) -> None:
    """End a worker without believing that it will end by itself."""
    worker.kill()
    worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                # Bytes that were never sent: nobody is there to read them.
                continue
