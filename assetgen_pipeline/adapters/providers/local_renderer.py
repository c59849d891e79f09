"""The local renderer: storyboard frames without key or network, for rehearsals and tests."""

import asyncio
import hashlib
import os
from collections.abc import Sequence

from assetgen_pipeline.adapters.storyboard.frame import draw_frame
from assetgen_pipeline.domain.budget import AttemptToken
from assetgen_pipeline.domain.generation import (
    ErrorKind,
    PlannedImage,
    ProviderError,
    ProviderImage,
)
from assetgen_pipeline.domain.pricing import ModelPrice, listed_cost
from assetgen_pipeline.ports.clock import Clock
from assetgen_pipeline.ports.images import ImageProvider


class LocalRenderer(ImageProvider):
    """Draws each request as a storyboard frame; the same request gives the same bytes."""

    def __init__(
        self,
        *,
        price: ModelPrice,
        clock: Clock,
        latency_s: float = 0.0,
        failure_rate: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Rehearse `latency_s` per call; `seed` decides which attempts fail."""
        self._price = price
        self._clock = clock
        self._latency_s = latency_s
        self._failure_rate = failure_rate
        self._seed = seed
        # More than the cores draw at once only makes each slower, and takes 32 MB.
        self._drawing = asyncio.Semaphore(os.cpu_count() or 1)

    async def generate(
        self, image: PlannedImage, references: Sequence[bytes], token: AttemptToken
    ) -> ProviderImage:
        """Draw the frame in a thread, after the rehearsed latency.

        Raises:
            ProviderError: a rehearsed failure, or a reference that is no image.
        """
        if self._latency_s > 0:
            await self._clock.sleep(self._latency_s)
        if self._fails(token):
            raise ProviderError("a rehearsed failure", kind=ErrorKind.TRANSIENT)
        try:
            async with self._drawing:
                data = await asyncio.to_thread(draw_frame, image, tuple(references))
        except OSError:
            raise ProviderError(
                "a reference image cannot be decoded", kind=ErrorKind.INVALID_REQUEST
            ) from None
        cost = listed_cost(self._price, prompt=image.prompt, references=len(references))
        return ProviderImage(
            data=data, cost=cost, cost_basis="flat", request_id=f"local-{token.attempt_id[:12]}"
        )

    async def aclose(self) -> None:
        """Nothing is open."""

    def _fails(self, token: AttemptToken) -> bool:
        """By hash, not by chance, so that a rehearsal can be repeated."""
        digest = hashlib.sha256(f"{self._seed}:{token.attempt_id}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < self._failure_rate * 2**64
