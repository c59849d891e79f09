"""Batches that wait: for approval, for the end of a pause, or for the daemon to run them.

One small object per batch, `index/waiting/<batch_id>`, so that whoever looks after waiting
batches lists these and nothing else. A wait needs no process: it outlives all of them.
"""

from datetime import datetime, timedelta
from typing import Literal

from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.pauses import PauseState

Cause = Literal["approval", "pause", "run"]
"""`run`: nothing is missing but a run."""


class Waiting(Value):
    """What a batch waits for."""

    batch_id: str
    owner: str
    cause: Cause
    since: datetime
    provider: str = ""
    """Whom it would pay, where that is known."""


def what_is_due(
    waiting: Waiting, pauses: PauseState, *, now: datetime, approval_expires: timedelta
) -> Literal["wait", "run", "expire"]:
    """What to do with a waiting batch now; a paused one is never run, but it does expire."""
    if waiting.cause == "approval":
        return "expire" if now - waiting.since >= approval_expires else "wait"
    return "wait" if pauses.stopping(waiting.owner, waiting.provider) else "run"
