"""A signer without keys or network."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from urllib.parse import quote

from assetgen_pipeline.domain.delivery import SignedUrl
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.ports.delivery import UrlSigner

_LIMIT = timedelta(days=7)


class FakeSigner(UrlSigner):
    """Signs predictably; `signed` lists every name in order, `fail_next` makes it fail."""

    kind = "fake"

    def __init__(
        self,
        *,
        bucket: str = "test-bucket",
        max_ttl: timedelta = _LIMIT,
        endpoint: str = "https://storage.test",
    ) -> None:
        """Cut every TTL to `max_ttl`, as the real signers do to theirs."""
        self.signed: list[str] = []
        self._base = f"{endpoint}/{bucket}"
        self._max_ttl = max_ttl
        self._failures = 0

    def fail_next(self, *, times: int = 1) -> None:
        """Make the next calls raise `StorageUnavailable`."""
        self._failures += times

    def sign(self, names: Sequence[str], *, ttl: timedelta, now: datetime) -> list[SignedUrl]:
        """Sign each name with the time it was signed at, in the order of `names`.

        Raises:
            StorageUnavailable: `fail_next` asked for it.
            ValueError: `ttl` is less than a second, or `now` has no time zone.
        """
        if self._failures:
            self._failures -= 1
            raise StorageUnavailable("the signer was told to be unavailable")
        if ttl < timedelta(seconds=1) or now.tzinfo is None:
            raise ValueError("a link needs a second of life and an instant with a time zone")
        at = now.replace(microsecond=0)
        life = timedelta(seconds=int(min(ttl, self._max_ttl).total_seconds()))
        self.signed.extend(names)
        return [
            SignedUrl(
                url=f"{self._base}/{quote(name)}?X-Goog-Signature=fake-{at:%Y%m%dT%H%M%SZ}",
                expires_at=at + life,
                signer=self.kind,
            )
            for name in names
        ]
