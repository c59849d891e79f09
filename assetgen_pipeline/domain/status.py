"""The state of a batch, as `status.json` tells it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from assetgen_pipeline.domain.image_request import Value

Usd = Annotated[str, Field(pattern=r"^-?[0-9]+\.[0-9]{6}$")]
"""Dollars as decimal text with six digits (`Money.usd()`)."""


def _with_a_zone(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("an instant has a time zone")
    return text


Instant = Annotated[str, AfterValidator(_with_a_zone)]
"""ISO 8601, with its offset from UTC."""


class BatchState(StrEnum):
    """Where a batch stands."""

    RECEIVED = "received"
    VALIDATING = "validating"
    AWAITING_APPROVAL = "awaiting_approval"
    RESERVED = "reserved"
    RUNNING = "running"
    COMPLETED = "completed"
    COMPLETED_WITH_FAILURES = "completed_with_failures"
    REJECTED = "rejected"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PRICED = "priced"


_EXIT_CODES = {
    BatchState.COMPLETED: 0,
    BatchState.PRICED: 0,
    BatchState.FAILED: 1,
    BatchState.REJECTED: 2,
    BatchState.REFUSED: 3,
    BatchState.AWAITING_APPROVAL: 3,
    BatchState.COMPLETED_WITH_FAILURES: 4,
    BatchState.CANCELLED: 5,
}


class ImageCounts(Value):
    """Images by what became of them; the last four sum to `requested` once a batch ended."""

    requested: int = 0
    delivered: int = 0
    failed: int = 0
    blocked: int = 0
    not_attempted: int = 0


class BatchStatus(Value):
    """The document of `status.json`; times are ISO 8601 UTC."""

    batch_id: str
    owner: str
    state: BatchState
    mode: Literal["normal", "dry_run"]
    rows: int = 0
    images: ImageCounts = ImageCounts()
    estimate_usd: Usd | None = None
    reserved_usd: Usd | None = None
    spent_usd: Usd | None = None
    started_at: Instant | None = None
    updated_at: Instant
    finished_at: Instant | None = None
    run_id: str | None = None
    outbox: str
    problem: dict[str, object] | None = None

    @property
    def resumes(self) -> bool:
        """Whether a batch that failed is finished by a running daemon, unasked."""
        return self.problem is not None and self.problem.get("resumes") is True


def is_terminal(state: BatchState) -> bool:
    """Whether the batch has ended (one that waits for approval has not)."""
    return state in _EXIT_CODES and state is not BatchState.AWAITING_APPROVAL


def exit_code(state: BatchState) -> int | None:
    """The exit code of a command that watched the batch, `None` while it is under way.

    A batch that waits for approval has one: nobody watches it further.
    """
    return _EXIT_CODES.get(state)
