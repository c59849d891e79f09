"""What signs URLs."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime, timedelta

from assetgen_pipeline.domain.delivery import SignedUrl


class UrlSigner(ABC):
    """Signs V4 URLs."""

    kind: str

    @abstractmethod
    def sign(self, names: Sequence[str], *, ttl: timedelta, now: datetime) -> list[SignedUrl]:
        """Sign a GET of each object; the TTL is cut to what the signer can promise.

        Raises:
            StorageUnavailable: the signing service refuses or cannot be reached.
        """
