"""What makes images, and what looks into them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from assetgen_pipeline.domain.budget import (
    AttemptToken,
)
from assetgen_pipeline.domain.generation import InspectedImage, PlannedImage, ProviderImage
from assetgen_pipeline.domain.references import DecodedReference


class ImageCodec(ABC):
    """Decodes images within limits of pixels, memory and time. All calls block."""

    @property
    @abstractmethod
    def decoders(self) -> int:
        """How many images can be decoded at once without one slowing another."""

    @abstractmethod
    def prepare(self) -> None:
        """Start what decoding strangers' bytes needs, without waiting for it."""

    @abstractmethod
    def decode_reference(self, data: bytes) -> DecodedReference:
        """Decode a stranger's bytes in a limited worker and re-encode them.

        Raises:
            ReferenceUnfetched: with the code that says why it cannot be used.
        """

    @abstractmethod
    def inspect(self, data: bytes) -> InspectedImage:
        """Decode a provider's image once: its facts and its thumbnail.

        Raises:
            ProviderError: of kind `bad_output`; not an image that we deliver.
        """


class ImageProvider(ABC):
    """Turns one request into one image. One call is one network attempt; never retries."""

    @abstractmethod
    async def generate(
        self, image: PlannedImage, references: Sequence[bytes], token: AttemptToken
    ) -> ProviderImage:
        """Make the image; the token proves that the ledger knows of the attempt.

        Raises:
            ProviderError: with its kind and whether it is billed.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Close connections; call in the loop that generated."""
