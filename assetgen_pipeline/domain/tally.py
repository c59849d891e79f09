"""A running count of a batch's images, kept up to date by what changed in the ledger.

Deriving every outcome again for each progress report would read the whole batch each time.
"""

import sys
from collections import Counter
from collections.abc import Container, Iterable
from datetime import datetime
from typing import NamedTuple

from assetgen_pipeline.domain.budget import AttemptRecord
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.domain.outcome import ImageStatus, attempt_status


class _Told(NamedTuple):
    """What counts of one attempt; ten thousand whole records would be too much to keep."""

    order: tuple[bool, int]
    """The delivering attempt counts, else the last."""
    status: ImageStatus
    code: str
    micros: int


class Earlier(NamedTuple):
    """What the attempts so far mean for the next ones, by item."""

    ended: frozenset[str]
    """Needs no further attempt: delivered, or blocked for good."""
    unstored: frozenset[str]
    """Paid for, and the bucket never answered the upload: the image may be there all the same."""


class BatchTally:
    """Counts by status and the money spent; the same attempt may be told any number of times."""

    def __init__(self, *, requested: int, failed_by_reference: int = 0) -> None:
        """Begin with nothing attempted; some images fail without an attempt."""
        self._requested = requested
        self._failed_by_reference = failed_by_reference
        self._attempts: dict[str, tuple[_Told, ...]] = {}
        self._shared: dict[tuple[_Told, ...], tuple[_Told, ...]] = {}
        """Each of these once: most items went the same way."""
        self._counter: Counter[ImageStatus] = Counter()
        self.spent = ZERO
        self.changed_at: datetime | None = None
        """The newest change told so far."""

    def update(self, records: Iterable[AttemptRecord]) -> None:
        """Take in attempts that are new, or that changed."""
        for record in records:
            known = self._attempts.get(record.item_key, ())
            if known:
                self._counter[max(known).status] -= 1
            others = (one for one in known if one.order[1] != record.attempt_no)
            told = (*others, _told(record))
            self._counter[max(told).status] += 1
            self.spent = Money(self.spent.micros + _micros(told) - _micros(known))
            self._attempts[record.item_key] = self._shared.setdefault(told, told)
            changed_at = record.resolved_at or record.intent_at
            if self.changed_at is None or changed_at > self.changed_at:
                self.changed_at = changed_at

    def counts(self, in_hand: Container[str] = ()) -> dict[str, int]:
        """Images by status, `requested` first; what failed and is in hand is still to come."""
        counts = {status.value: self._counter[status] for status in ImageStatus}
        counts["failed"] += self._failed_by_reference - sum(self.retried(in_hand).values())
        counts["not_attempted"] = self._requested - sum(
            counts[status.value] for status in ImageStatus if status != ImageStatus.NOT_ATTEMPTED
        )
        return {"requested": self._requested, **counts}

    def earlier(self) -> Earlier:
        """What was told so far, for whoever goes on."""
        ended = {ImageStatus.DELIVERED, ImageStatus.BLOCKED}
        unstored = (ImageStatus.FAILED, StorageUnavailable.code)
        last = list(self._last())
        return Earlier(
            ended=frozenset(item for item, told in last if told.status in ended),
            unstored=frozenset(item for item, told in last if (told.status, told.code) == unstored),
        )

    def errors(self, in_hand: Container[str] = ()) -> dict[str, int]:
        """Images that failed or were blocked for good, by the code of their last attempt."""
        over = {ImageStatus.FAILED, ImageStatus.BLOCKED}
        return _by_code(
            told
            for item, told in self._last()
            if told.status in over and not _goes_on(item, told, in_hand)
        )

    def retried(self, in_hand: Container[str]) -> dict[str, int]:
        """Images in hand whose last attempt failed, by its code."""
        return _by_code(told for item, told in self._last() if _goes_on(item, told, in_hand))

    def _last(self) -> Iterable[tuple[str, _Told]]:
        """Each item and the attempt that counts."""
        return ((item, max(known)) for item, known in self._attempts.items())


def earlier_of(records: Iterable[AttemptRecord]) -> Earlier:
    """What these attempts mean for the next ones."""
    tally = BatchTally(requested=0)
    tally.update(records)
    return tally.earlier()


def _goes_on(item: str, told: _Told, in_hand: Container[str]) -> bool:
    return told.status is ImageStatus.FAILED and item in in_hand


def _by_code(attempts: Iterable[_Told]) -> dict[str, int]:
    return dict(Counter(told.code for told in attempts).most_common())


def _told(record: AttemptRecord) -> _Told:
    return _Told(
        order=(record.image is not None, record.attempt_no),
        status=attempt_status(record),
        code=sys.intern(record.code),
        micros=record.cost.micros if record.cost is not None else 0,
    )


def _micros(attempts: Iterable[_Told]) -> int:
    return sum(one.micros for one in attempts)
