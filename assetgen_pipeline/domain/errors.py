"""Every error that this package raises on purpose, and whether trying again can help.

    AssetgenError
    ├── BatchRejected           the file is invalid; carries every problem of it
    ├── BudgetRefused           the day's limit does not cover the batch
    ├── PriceUnknown            no price, no call
    ├── ReferenceError_
    │   ├── ReferenceBlocked    refused by policy: the row fails, never the fallback
    │   └── ReferenceUnfetched  could not be had: the row goes on without it
    ├── ProviderError           one attempt failed; `kind` says how
    ├── ObjectExists, ObjectMissing, ObjectChanged      storage preconditions
    ├── StorageUnavailable      retryable
    ├── LedgerError
    │   ├── LedgerUnavailable   retryable; no call is made
    │   ├── NoCover, HoldNotOpen, IdempotencyConflict
    └── ClaimLost               a live other run works on this batch

An error's text is for people and holds no secret, URL query, path or upstream body.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from assetgen_pipeline.domain.money import Money


class AssetgenError(Exception):
    """Any error of ours; `code` is a problem code of the public contract."""

    code = "internal"
    retryable = False
    fix = "Look at the run's log; `assetgen support-bundle BATCH` collects what we need."


@dataclass(frozen=True, slots=True)
class FileProblem:
    """One thing wrong with a file: where, which rule, and what to do."""

    line: int
    column: str
    code: str
    detail: str


class BatchRejected(AssetgenError):
    """The file is invalid; nothing was reserved or spent."""

    fix = "Correct the lines named and drop the file again."

    def __init__(self, problems: Sequence[FileProblem], *, total: int | None = None) -> None:
        """Carry every problem of the file (`total` where the list was cut short)."""
        self.problems = tuple(problems)
        self.total = total if total is not None else len(self.problems)
        self.code = self.problems[0].code
        first = self.problems[0]
        where = f"line {first.line}" + (f", {first.column}" if first.column else "")
        more = f" (and {self.total - 1} more)" if self.total > 1 else ""
        super().__init__(f"{where}: {first.detail}{more}")


class OwnerInvalid(AssetgenError):
    """The folder a file was dropped in is not an owner's name."""

    code = "owner-invalid"
    fix = "Use lower-case letters, digits, _ and -, at most 63, beginning with a letter or digit."


class BudgetRefused(AssetgenError):
    """The estimate is larger than what the owner's day has left."""

    code = "budget-exceeded"
    fix = "Wait for the reset, raise the limit (`assetgen budget set`), or submit fewer rows."

    def __init__(
        self,
        *,
        estimate: Money,
        headroom: Money,
        limit: Money,
        resets_at: datetime,
        scope: str,
    ) -> None:
        """State the figures that the refusal rests on; `resets_at` is aware UTC."""
        super().__init__(
            f"needs {estimate}, {headroom} left of {limit} today; resets at {resets_at.isoformat()}"
        )
        self.estimate = estimate
        self.headroom = headroom
        self.limit = limit
        self.resets_at = resets_at
        self.scope = scope
        self.rows_that_fit: int | None = None


class PriceUnknown(AssetgenError):
    """The catalogue has no price for this provider and model."""

    code = "price-unknown"
    fix = "Choose a model of the catalogue, or add its price to your own."


class ReferenceBlocked(AssetgenError):
    """A reference is refused by policy; its row fails, without a paid call."""

    code = "reference-blocked"
    fix = "Use a public https:// address, or upload the image as a reference pack."

    def __init__(self, message: str, *, code: str = "reference-blocked") -> None:
        """`code` is `reference-blocked`, `reference-not-permitted` or `reference-url-invalid`."""
        super().__init__(message)
        self.code = code


class ReferenceUnfetched(AssetgenError):
    """A reference could not be had; its row goes on and says so."""

    code = "reference-unavailable"

    def __init__(
        self,
        message: str,
        *,
        code: str = "reference-unavailable",
        retryable: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        """`retryable` says whether another attempt at the same URL can help."""
        super().__init__(message)
        self.code = code
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class ObjectExists(AssetgenError):
    """A create-only upload met an object that is already there."""

    code = "storage-conflict"


class ObjectMissing(AssetgenError):
    """The object, or that generation of it, is not in the bucket."""

    code = "storage-conflict"


class ObjectChanged(AssetgenError):
    """A write guarded by a generation met another generation."""

    code = "storage-conflict"


class StorageUnavailable(AssetgenError):
    """The bucket cannot be reached or refuses us."""

    code = "storage-unavailable"
    retryable = True
    fix = "`assetgen doctor` checks the bucket and names the missing permission."


class LedgerError(AssetgenError):
    """The ledger refused an operation."""


class LedgerUnavailable(LedgerError):
    """The ledger cannot be reached; no paid call is made."""

    code = "ledger-unavailable"
    retryable = True
    fix = "`assetgen doctor` checks the ledger."


class LedgerSchemaError(LedgerUnavailable):
    """The ledger's schema is not one that this release can use."""

    retryable = False
    fix = "`assetgen doctor --fix` upgrades an older schema; a newer one needs a newer release."


class NoCover(LedgerError):
    """The hold has no room left for this attempt's ceiling."""

    code = "budget-exceeded"


class HoldNotOpen(LedgerError):
    """The hold was closed or expired, or another run took it over (its fence moved on)."""


class IdempotencyConflict(LedgerError):
    """The same idempotency key came with another request."""


class ClaimLost(AssetgenError):
    """A live other run has claimed this batch."""

    code = "storage-conflict"


class BatchNotFound(AssetgenError):
    """No batch of this id is known."""

    fix = "`assetgen status` lists the batches."


class BatchCancelled(AssetgenError):
    """An operator asked for this batch to stop."""

    code = "cancelled"
