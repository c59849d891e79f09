"""An image provider that does what a test wrote down for it."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assetgen_pipeline.domain.budget import AttemptToken
from assetgen_pipeline.domain.generation import PlannedImage, ProviderError, ProviderImage
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.ports.images import ImageProvider
from assetgen_pipeline.testing.pictures import one_colour_png

ScriptedOutcome = ProviderImage | ProviderError

_LONG_EDGE_PX = 64
_COST = Money(2_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRequest:
    """One call that a provider received."""

    image: PlannedImage
    references: tuple[bytes, ...]
    token: AttemptToken


class ScriptedProvider(ImageProvider):
    """Answers from a script by `item_key`; what the script leaves out succeeds.

    Each item's outcomes come in order and the last one repeats. `requests` lists every call,
    `peak` is the most that were in flight at once. While `hold` is given and not set, calls
    wait in flight.
    """

    def __init__(
        self,
        script: Mapping[str, Sequence[ScriptedOutcome]] | None = None,
        *,
        default: Sequence[ScriptedOutcome] = (),
        cost: Money = _COST,
        hold: asyncio.Event | None = None,
    ) -> None:
        """`default` answers items outside `script`; without it they get a small PNG."""
        self._script = dict(script or {})
        self._default = tuple(default)
        self._cost = cost
        self._hold = hold
        self._calls: Counter[str] = Counter()
        self.requests: list[ProviderRequest] = []
        self.in_flight = 0
        self.peak = 0
        self.closed = False

    async def generate(
        self, image: PlannedImage, references: Sequence[bytes], token: AttemptToken
    ) -> ProviderImage:
        """Give the item's next outcome.

        Raises:
            ProviderError: the script says so.
        """
        self.requests.append(
            ProviderRequest(image=image, references=tuple(references), token=token)
        )
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await asyncio.sleep(0)  # Lets the others start, so that `peak` means something.
            if self._hold is not None:
                await self._hold.wait()
        finally:
            self.in_flight -= 1
        outcome = self._next(image)
        if isinstance(outcome, ProviderError):
            raise outcome
        return outcome

    async def aclose(self) -> None:
        """Note that it was closed."""
        self.closed = True

    def _next(self, image: PlannedImage) -> ScriptedOutcome:
        outcomes = self._script.get(image.item_key, self._default)
        call = self._calls[image.item_key]
        self._calls[image.item_key] += 1
        if not outcomes:
            return ProviderImage(data=small_png(image), cost=self._cost, cost_basis="flat")
        return outcomes[min(call, len(outcomes) - 1)]


def small_png(image: PlannedImage) -> bytes:
    """A real one-colour PNG of the image's shape, its colour from its content address."""
    width, height = image.aspect_ratio.pixels(_LONG_EDGE_PX)
    return one_colour_png(width, height, seed=image.image_id.encode())
