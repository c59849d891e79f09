"""What fetches reference images."""

from abc import ABC, abstractmethod

from assetgen_pipeline.domain.references import FetchedBytes, NotModified, Validators


class ReferenceFetcher(ABC):
    """Fetches what strangers' servers send. One call is one attempt with one deadline."""

    @property
    def waited_s(self) -> float:
        """Seconds that attempts waited for their turn on this machine, summed."""
        return 0.0

    @abstractmethod
    async def fetch(
        self, url: str, *, known: Validators | None = None
    ) -> FetchedBytes | NotModified:
        """Fetch one URL anonymously; where `known` still holds, the bytes are not sent again.

        Raises:
            ReferenceBlocked: policy refuses the URL, an address behind it, or a redirect.
            ReferenceUnfetched: anything else that gave no bytes; says whether to retry.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Close connections; call in the loop that fetched."""
