"""The errors that layers share, and whether trying again can help; a module's own stand there.

    AssetgenError
    ├── BatchRejected           the file is invalid; carries every problem of it
    ├── OwnerInvalid            not the name of a budget account
    ├── BudgetRefused           the day's limit does not cover the batch
    ├── PriceUnknown            no price, no call
    │   └── ModelUnavailable    retired by its provider; names the models that work
    ├── ReferenceBlocked        refused by policy: the row fails, never the fallback
    ├── ReferenceUnfetched      could not be had: the row goes on without it
    ├── ProviderError           one attempt failed; `kind` says how (in `generation`)
    ├── ObjectExists, ObjectMissing, ObjectChanged      storage preconditions
    ├── StorageUnavailable      retryable
    │   └── CredentialsMissing  of this machine, for Google Cloud
    ├── LedgerError
    │   ├── LedgerUnavailable   retryable; no call is made
    │   │   └── LedgerSchemaError
    │   └── HoldNotOpen, ContentTaken, IdempotencyConflict
    ├── ClaimLost               a live other run works on this batch
    ├── BatchBusy               ... and so a verb leaves it alone
    ├── BatchNotFound
    │   └── StatusUnreadable    ... or what stands in its place is no status of it
    ├── RunDied                 its process is gone; `resumes` says whether the daemon goes on
    ├── BatchCancelled
    │   └── ApprovalExpired     nobody approved the batch in time
    └── NotAwaitingApproval, CostFactsUnreadable, ExtraMissing, NotificationFailed

An error's text is for people and holds no secret, URL query, path or upstream body.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from assetgen_pipeline.domain.money import Money

RESUMES_FIX = "A running daemon finishes it by itself; nothing delivered is paid again."


class AssetgenError(Exception):
    """Any error of ours; `code` is a problem code of the public contract."""

    code = "internal"
    retryable = False
    resumes: bool | None = None
    """Whether a running daemon finishes the batch unasked; `None` where it never does."""
    fix = "Look at the run's log; `assetgen support-bundle BATCH` collects what we need."

    def with_fix(self, fix: str) -> Self:
        """This error with a nearer next step than that of its kind."""
        self.fix = fix
        return self


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
        self, *, estimate: Money, headroom: Money, limit: Money, resets_at: datetime, scope: str
    ) -> None:
        """State the figures that the refusal rests on; `resets_at` is aware UTC."""
        whole = scope == "project"
        whose = " for the whole deployment" if whole else ""
        super().__init__(
            f"needs {estimate}, {headroom} left of {limit} today{whose};"
            f" resets at {resets_at.isoformat()}"
        )
        if whole:
            self.fix = "Wait for the reset, raise PROJECT_DAILY_LIMIT_USD, or submit fewer rows."
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


class ModelUnavailable(PriceUnknown):
    """The model was retired by its provider."""

    code = "provider-config"
    fix = "Set ASSETGEN_MODEL to a model that works."


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

    def __init__(self, message: str, *, status: int = 0) -> None:
        """`status` is the HTTP status of the answer, 0 without any."""
        super().__init__(message)
        self.status = status


class CredentialsMissing(StorageUnavailable):
    """This machine has no Google Cloud credentials that will do."""

    fix = (
        "Run where a service account is attached, or set GOOGLE_APPLICATION_CREDENTIALS to the JSON"
        " key file of one."
    )


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


class HoldNotOpen(LedgerError):
    """The hold was closed or expired, or another run took it over (its fence moved on)."""


class ContentTaken(LedgerError):
    """The owner has this image already, or another batch is having it made."""


class IdempotencyConflict(LedgerError):
    """The same idempotency key came with another request."""


class ClaimLost(AssetgenError):
    """A live other run has claimed this batch."""

    code = "storage-conflict"


class BatchNotFound(AssetgenError):
    """No batch of this id is known."""

    code = "batch-not-found"
    fix = "`assetgen status` lists the batches."


class StatusUnreadable(BatchNotFound):
    """A batch's `status.json` was damaged or is another batch's; whoever writes next replaces it."""

    fix = "`assetgen retry BATCH` writes it anew; nothing delivered is paid again."


class RunDied(AssetgenError):
    """The process that worked on the batch is gone."""

    retryable = True

    def __init__(self, message: str, *, resumes: bool = False) -> None:
        """`resumes`: a running daemon finishes the batch without anybody asking."""
        super().__init__(message)
        self.resumes = resumes
        self.fix = (
            RESUMES_FIX
            if resumes
            else "`assetgen retry BATCH` makes what is missing; nothing is paid twice."
        )


class BatchCancelled(AssetgenError):
    """An operator asked for this batch to stop."""

    code = "cancelled"
    fix = "`assetgen retry BATCH` goes on where it stopped; nothing delivered is paid again."


class ApprovalExpired(BatchCancelled):
    """Nobody approved the batch in time."""

    fix = "`assetgen retry BATCH` asks for approval again."


class BatchBusy(AssetgenError):
    """A live run works on the batch, or waits in the queue to do so."""

    code = "storage-conflict"
    fix = "`assetgen watch BATCH` follows it, `assetgen cancel BATCH` stops it."


class PurgeStopped(AssetgenError):
    """A purge was ended before everything was deleted."""

    code = "storage-conflict"
    fix = "`assetgen purge BATCH` again deletes the rest."


class NotAwaitingApproval(AssetgenError):
    """There is nothing to approve."""

    code = "storage-conflict"
    fix = "`assetgen status BATCH` says how it stands."


class CostFactsUnreadable(AssetgenError):
    """A file under `costs/` is not one that we wrote."""

    fix = "Materialize `cost_daily` for its day: that writes the day's files from the ledger."


class ExtraMissing(AssetgenError):
    """An optional library is not installed."""

    fix = "`make install` installs it, and so does `pip install 'assetgen-pipeline[duckdb]'`."


class NotificationFailed(AssetgenError):
    """An alert reached nobody through one of its ways."""

    retryable = True
    fix = "`assetgen doctor --test-alert` sends one; check ALERT_WEBHOOK_URL and ALERT_EMAIL."
