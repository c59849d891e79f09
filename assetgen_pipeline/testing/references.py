"""References for tests: servers that follow a script, and images that are never decoded."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from assetgen_pipeline.domain.errors import ReferenceUnfetched
from assetgen_pipeline.domain.generation import ErrorKind, InspectedImage, ProviderError
from assetgen_pipeline.domain.references import (
    DecodedReference,
    FetchedBytes,
    NotModified,
    Validators,
)
from assetgen_pipeline.ports.images import ImageCodec
from assetgen_pipeline.ports.references import ReferenceFetcher

Answer = bytes | FetchedBytes | NotModified | Exception


class ScriptedReferenceFetcher(ReferenceFetcher):
    """Answers each URL from a script: one answer for ever, or a list whose last one repeats.

    A URL that is not in the script is unavailable. `urls` lists the requests in order, `known` what each
    was asked about, `peak` is the most that were under way at once. None is answered before
    `together` were under way at once.
    """

    def __init__(
        self, script: Mapping[str, Answer | Sequence[Answer]], *, together: int = 1
    ) -> None:
        """An answer is bytes or an answer to return, or an error to raise."""
        self._script = script
        self._together = together
        self._met = asyncio.Event()
        self._asked: Counter[str] = Counter()
        self._under_way = 0
        self.urls: list[str] = []
        self.known: list[Validators | None] = []
        self.peak = 0
        self.closed = False

    async def fetch(
        self, url: str, *, known: Validators | None = None
    ) -> FetchedBytes | NotModified:
        """The next answer of the script.

        Raises:
            ReferenceBlocked, ReferenceUnfetched: where the script says so.
        """
        self.urls.append(url)
        self.known.append(known)
        self._under_way += 1
        self.peak = max(self.peak, self._under_way)
        if self._under_way >= self._together:
            self._met.set()
        try:
            await self._met.wait()
            await asyncio.sleep(0)
            answer = self._next(url)
        finally:
            self._under_way -= 1
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, bytes):
            return FetchedBytes(data=answer, content_type="image/png")
        return answer

    async def aclose(self) -> None:
        """Note that it was closed."""
        self.closed = True

    def _next(self, url: str) -> Answer:
        answers = self._script.get(url, ReferenceUnfetched("the server gave no image"))
        if not isinstance(answers, Sequence) or isinstance(answers, bytes):
            return answers
        turn = min(self._asked[url], len(answers) - 1)
        self._asked[url] += 1
        return answers[turn]


class FakeImageCodec(ImageCodec):
    """Takes any bytes for a square PNG, except those that begin with `bad`."""

    def __init__(self, *, side_px: int = 64) -> None:
        """Every image has `side_px` a side."""
        self._side_px = side_px

    @property
    def decoders(self) -> int:
        """Two at once."""
        return 2

    def prepare(self) -> None:
        """Nothing is needed."""

    def decode_reference(self, data: bytes) -> DecodedReference:
        """The same bytes with a mark in front.

        Raises:
            ReferenceUnfetched: the bytes begin with `bad`.
        """
        if data.startswith(b"bad"):
            raise ReferenceUnfetched("the image cannot be decoded", code="reference-undecodable")
        return DecodedReference(
            data=b"re-encoded:" + data,
            mime_type="image/png",
            width=self._side_px,
            height=self._side_px,
            source_type="image/png",
        )

    def inspect(self, data: bytes) -> InspectedImage:
        """A thumbnail that names its image.

        Raises:
            ProviderError: the bytes begin with `bad`.
        """
        if data.startswith(b"bad"):
            raise ProviderError("not an image", kind=ErrorKind.BAD_OUTPUT)
        return InspectedImage(
            mime_type="image/png",
            width=self._side_px,
            height=self._side_px,
            thumbnail=b"thumbnail:" + data[:32],
        )
