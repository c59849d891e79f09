"""The outside world, abstract: what stages may ask of it, in domain values only.

Adapters make these real, `testing/` fakes them, and one contract suite per port in
`assetgen_pipeline_tests/contracts/` holds both to the same words.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from assetgen_pipeline.domain.budget import (
    AttemptRecord,
    AttemptRequest,
    AttemptToken,
    BudgetDay,
    Hold,
    InvariantCheck,
    StoredImage,
)
from assetgen_pipeline.domain.delivery import SignedUrl
from assetgen_pipeline.domain.generation import InspectedImage, PlannedImage, ProviderImage
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.references import DecodedReference, FetchedBytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """One object of the bucket, without its bytes."""

    name: str
    generation: int
    size: int
    content_type: str
    updated_at: datetime
    metadata: Mapping[str, str]


class ObjectStore(ABC):
    """The bucket. All calls block; every failure to reach it is `StorageUnavailable`."""

    bucket: str

    @abstractmethod
    def read(self, name: str, *, generation: int | None = None) -> bytes:
        """The object's bytes as stored, never decompressed.

        Raises:
            ObjectMissing: no such object, or not at that generation.
        """

    @abstractmethod
    def stat(self, name: str) -> ObjectInfo | None:
        """The object's description, or `None`."""

    @abstractmethod
    def create(
        self, name: str, data: bytes, *, content_type: str, metadata: Mapping[str, str] = {}
    ) -> ObjectInfo:
        """Upload an object that must not exist yet.

        Raises:
            ObjectExists: it does; nothing was changed.
        """

    @abstractmethod
    def write(
        self,
        name: str,
        data: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str] = {},
        if_generation: int | None = None,
    ) -> ObjectInfo:
        """Upload a new generation of an object, created where absent.

        Raises:
            ObjectChanged: `if_generation` is given and is not the present one.
        """

    @abstractmethod
    def delete(self, name: str, *, generation: int | None = None) -> bool:
        """Delete an object; `False` where it (or that generation of it) is gone already."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects under a prefix in name order, page by page."""


class Ledger(ABC):
    """The record of budgets. Every call is one transaction; all calls block.

    At every commit, for every owner and budget day, `held + settled <= limit`.
    Every call can raise `LedgerUnavailable`, and then nothing was changed.
    """

    @abstractmethod
    def reserve(
        self, *, owner: str, batch_id: str, run_id: str, amount: Money, price_version: str
    ) -> Hold:
        """Hold `amount` on today's budget, or adopt the batch's open hold.

        An open hold is taken over (its fence rises) and extended to cover `amount`.

        Raises:
            BudgetRefused: the day's limit (the owner's or the deployment's) does not cover it.
        """

    @abstractmethod
    def open_hold(self, batch_id: str) -> Hold | None:
        """The batch's open hold, if any."""

    @abstractmethod
    def intent(self, hold: Hold, request: AttemptRequest) -> AttemptToken:
        """Commit the intent to make one paid attempt; only then may bytes leave.

        Extends the hold under the day's limit where it has no cover left.

        Raises:
            BudgetRefused: an extension was needed and the day's limit does not cover it.
            HoldNotOpen: closed, expired, or taken over by another run.
        """

    @abstractmethod
    def capture(
        self,
        attempt: AttemptToken | AttemptRecord,
        *,
        cost: Money,
        cost_basis: str,
        image: StoredImage | None,
        code: str = "",
        detail: str = "",
        latency_ms: int = 0,
        request_id: str = "",
    ) -> None:
        """Book the actual cost; accepted even when the hold has ended meanwhile.

        The same cost again changes nothing. An attempt that was assumed is corrected.

        Raises:
            IdempotencyConflict: the attempt was already resolved otherwise.
        """

    @abstractmethod
    def void(self, token: AttemptToken, *, code: str, detail: str, latency_ms: int = 0) -> None:
        """Book that the attempt was proven not to be billed.

        Raises:
            IdempotencyConflict: the attempt was already resolved otherwise.
        """

    @abstractmethod
    def assume(self, token: AttemptToken, *, code: str, detail: str, latency_ms: int = 0) -> None:
        """Book the ceiling, because nobody can know whether the attempt is billed.

        Raises:
            IdempotencyConflict: the attempt was already resolved otherwise.
        """

    @abstractmethod
    def reuse(self, hold: Hold, request: AttemptRequest, image: StoredImage) -> None:
        """Record that an item is served from a stored image, at no cost.

        Raises:
            HoldNotOpen: closed, expired, or taken over by another run.
        """

    @abstractmethod
    def settle(self, batch_id: str) -> Money:
        """End the batch's open hold and return what was released.

        Attempts still in flight become assumed at their ceiling first. Settling a batch
        without an open hold releases nothing.
        """

    @abstractmethod
    def attempts(self, batch_id: str) -> list[AttemptRecord]:
        """All attempts of a batch, oldest first."""

    @abstractmethod
    def stored_images(self, owner: str, image_ids: Sequence[str]) -> dict[str, StoredImage]:
        """Images that this owner already paid for, by content address."""

    @abstractmethod
    def day(self, owner: str) -> BudgetDay:
        """The owner's budget today, also where nothing was reserved yet."""

    @abstractmethod
    def set_limit(self, owner: str, limit: Money, *, set_by: str) -> BudgetDay:
        """Change an owner's daily limit.

        Raising it counts at once; lowering it never below what today already holds or spent.
        """

    @abstractmethod
    def open_holds(self) -> list[Hold]:
        """All open holds, oldest first."""

    @abstractmethod
    def verify(self) -> list[InvariantCheck]:
        """Check every invariant of the books and report each."""


class ReferenceFetcher(ABC):
    """Fetches what strangers' servers send. One call is one attempt with one deadline."""

    @abstractmethod
    async def fetch(self, url: str) -> FetchedBytes:
        """Fetch one URL anonymously.

        Raises:
            ReferenceBlocked: policy refuses the URL, an address behind it, or a redirect.
            ReferenceUnfetched: anything else that gave no bytes; says whether to retry.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Close connections; call in the loop that fetched."""


class ImageCodec(ABC):
    """Decodes images within limits of pixels, memory and time. All calls block."""

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


class UrlSigner(ABC):
    """Signs V4 URLs."""

    kind: str

    @abstractmethod
    def sign(self, names: Sequence[str], *, ttl: timedelta, now: datetime) -> list[SignedUrl]:
        """Sign a GET of each object; the TTL is cut to what the signer can promise.

        Raises:
            StorageUnavailable: the signing service refuses or cannot be reached.
        """


class CostFacts(ABC):
    """The Parquet files analysts query: one per batch and budget day."""

    @abstractmethod
    def publish(
        self, batch_id: str, budget_date: date, rows: Iterable[Mapping[str, object]]
    ) -> str:
        """Write one batch's facts, replacing its file, and return the object's name."""


class Clock(ABC):
    """Time, passed in so that tests can move it."""

    @abstractmethod
    def now(self) -> datetime:
        """The present instant, aware, UTC."""

    @abstractmethod
    def monotonic(self) -> float:
        """Seconds that only grow."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Wait."""
