"""Find holds whose run is dead, and end them: receipts first, then the fence.

Who is dead is judged by whoever knows the runs; a hold's age alone proves nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from assetgen_pipeline.domain.bucket_layout import owner_of
from assetgen_pipeline.domain.budget import Hold
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.stages.image_receipts import book_receipts
from assetgen_pipeline.stages.services import Services

OVERDUE_SENTENCE = "No hold is open whose run ended more than five minutes ago."
# What one failure on the way leaves for the next recovery.
_AT_ONCE = 50


class RunFate(StrEnum):
    """What became of the run that holds money."""

    WORKING = "working"
    FINISHED = "finished"
    """It is over, and nobody released its hold."""
    GONE = "gone"
    """Its process has ended."""
    UNKNOWN = "unknown"
    """Nobody here knows the run, and nothing proves that its process has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldFinding:
    """One open hold: its run's fate, and what was released (`None`: left as it is)."""

    hold: Hold
    fate: RunFate
    released: Money | None


def expire_hold(hold: Hold, *, services: Services) -> Money | None:
    """Book what receipts prove, then end the hold; `None` where another run has it meanwhile.

    Raises:
        LedgerUnavailable, StorageUnavailable: call again later.
    """
    _book(hold, services)
    return services.ledger.expire(hold)


def recover_holds(
    holds: Iterable[Hold],
    *,
    fate_of: Callable[[Hold], RunFate],
    services: Services,
    also_unknown: bool = False,
) -> list[HoldFinding]:
    """Expire every hold whose run is dead; those of unknown runs only where asked to.

    Raises:
        LedgerUnavailable, StorageUnavailable: call again later.
    """
    dead = {RunFate.FINISHED, RunFate.GONE} | ({RunFate.UNKNOWN} if also_unknown else set())
    findings: list[HoldFinding] = []
    waiting = list(holds)
    while waiting:
        some, waiting = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
        fates = [fate_of(hold) for hold in some]
        ending = [hold for hold, fate in zip(some, fates, strict=True) if fate in dead]
        for hold in ending:
            _book(hold, services)
        released = iter(services.ledger.expire_all(ending))
        findings += [
            HoldFinding(hold=hold, fate=fate, released=next(released) if fate in dead else None)
            for hold, fate in zip(some, fates, strict=True)
        ]
    return findings


def _book(hold: Hold, services: Services) -> None:
    records = services.ledger.attempts(hold.batch_id)
    book_receipts(records, owner=owner_of(hold.batch_id), services=services)
