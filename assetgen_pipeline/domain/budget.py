"""Budgets: holds, attempts and days, in the words of the ledger.

The rules that keep `held + settled <= limit` are enforced by the ledger adapter in one
transaction each; this module says what the values mean.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.money import Money


class Hold(Value):
    """Money set aside for one batch on one budget day."""

    hold_id: str
    batch_id: str
    owner: str
    budget_date: date
    amount: Money
    fence: int
    """Rises whenever another run takes the hold over; an older fence can send nothing."""
    run_id: str = ""
    """The run that holds it now."""
    worker: str = ""
    """The process of that run, as `host/boot id/pid/start time`; empty where not recorded."""
    opened_at: datetime | None = None


class AttemptState(StrEnum):
    """Where a paid attempt stands; only `intent` is open."""

    INTENT = "intent"
    CAPTURED = "captured"
    VOIDED = "voided"
    ASSUMED = "assumed"


class StoredImage(Value):
    """A generated image in the bucket."""

    object_name: str
    thumbnail_name: str
    mime_type: str
    width: int
    height: int
    size_bytes: int
    sha256: str

    @classmethod
    def of(
        cls,
        data: bytes,
        *,
        object_name: str,
        thumbnail_name: str,
        mime_type: str,
        size: tuple[int, int],
    ) -> "StoredImage":
        """Describe `data` as stored under these names; `size` is width and height in pixels."""
        return cls(
            object_name=object_name,
            thumbnail_name=thumbnail_name,
            mime_type=mime_type,
            width=size[0],
            height=size[1],
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
        )


class OwnedImage(Value):
    """An image that an owner paid for, as the ledger has it; it may be gone from the bucket."""

    image: StoredImage
    served: int
    """How many attempts were booked with an image of this content; never falls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRequest:
    """What the ledger must know before bytes leave for a provider."""

    item_key: str
    image_id: str
    row_number: int
    scene_id: str
    variant: int
    provider: str
    model: str
    lane: str
    run_id: str
    ceiling: Money
    once: bool = False
    """Refuse where the owner has this image, or another batch is having it made."""
    gone: int = 0
    """With `once`: so many attempts had this image, and it is gone; the owner has a later one only."""
    further: bool = False
    """An attempt at this item was paid in vain: cover for this one comes on top of the hold."""


_MINT = object()


@dataclass(frozen=True, slots=True)
class AttemptToken:
    """Proof that an intent is committed; the only thing a provider can be called with.

    Ledgers make tokens with `mint`; nothing else does (a test looks for other callers).
    """

    attempt_id: str
    attempt_no: int
    ceiling: Money
    _seal: object = field(repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        """Refuse a token that no ledger made.

        Raises:
            TypeError: constructed directly.
        """
        if self._seal is not _MINT:
            message = "attempt tokens are made by a ledger's intent() and by nothing else"
            raise TypeError(message)

    @classmethod
    def mint(cls, *, attempt_id: str, attempt_no: int, ceiling: Money) -> "AttemptToken":
        """Make a token for an intent that is already committed."""
        return cls(attempt_id, attempt_no, ceiling, _MINT)


class AttemptRecord(Value):
    """One attempt as the ledger keeps it."""

    attempt_id: str
    hold_id: str
    batch_id: str
    item_key: str
    attempt_no: int
    image_id: str
    row_number: int
    scene_id: str
    variant: int
    provider: str
    model: str
    lane: str
    run_id: str
    state: AttemptState
    ceiling: Money
    cost: Money | None
    cost_basis: str
    """`usage`, `flat`, `assumed`, `reused` or `none`."""
    code: str
    """A problem code where the attempt failed, else empty."""
    detail: str
    image: StoredImage | None
    latency_ms: int
    price_version: str
    spend_date: date
    budget_date: date
    intent_at: datetime
    resolved_at: datetime | None


class BookedImage(Value):
    """A stored image that a captured attempt was paid for, or that served an item again."""

    attempt_id: str
    batch_id: str
    object_name: str


class BudgetDay(Value):
    """An owner's day, or the deployment's: the limit and what stands against it."""

    owner: str
    budget_date: date
    limit: Money
    held: Money
    settled: Money
    assumed: Money
    overrun: Money
    resets_at: datetime

    @property
    def headroom(self) -> Money:
        """What can still be reserved (an overrun uses it up; never below zero)."""
        return Money(max(0, (self.limit - self.held - self.settled).micros))


def limit_in_force(target: Money, *, present: Money, taken: int) -> Money:
    """The limit of a day under way when `target` is set: never below what is taken already.

    `taken` is held and settled together, in micros. An overrun stays above the limit.
    """
    return max(target, min(present, Money(taken)))


def budget_date_at(now: datetime, time_zone: ZoneInfo) -> date:
    """The local date of an instant: the budget day that a reservation made then counts to."""
    return now.astimezone(time_zone).date()


@lru_cache(maxsize=256)
def day_bounds(day: date, time_zone: ZoneInfo) -> tuple[datetime, datetime]:
    """First instant of `day` and of the next existing day, in UTC; half open.

    Found by search, because local midnight may not exist (Cairo, Santiago), come twice
    (Havana) or a whole date may be missing (Apia, 2011-12-30). Where a date comes back
    (St. John's, 2010-11-07) the end is the last instant after which it is gone.
    """
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=27)
    return (
        _first_instant(start, day, time_zone),
        _first_instant(start, day + timedelta(days=1), time_zone),
    )


def _first_instant(low: datetime, day: date, time_zone: ZoneInfo) -> datetime:
    """The instant after the last one (within 78 h) whose local date lies before `day`."""
    step = timedelta(minutes=15)
    before = low
    for index in range(78 * 4):
        probe = low + step * index
        if budget_date_at(probe, time_zone) < day:
            before = probe
    high = before + step
    while high - before > timedelta(seconds=1):
        middle = before + (high - before) / 2
        if budget_date_at(middle, time_zone) < day:
            before = middle
        else:
            high = middle
    return high.replace(microsecond=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class InvariantCheck:
    """One invariant: its name, what it says, and the rows that break it."""

    name: str
    sentence: str
    violations: tuple[str, ...]
