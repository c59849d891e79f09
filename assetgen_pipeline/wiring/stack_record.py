"""What a HOME's record of its stack tells to whoever judges daemons: whether `up` was stopped, and when.

The file is the lock of `up`: it holds the process that runs a stack, and nothing once that was
stopped in order. Who was killed leaves its id.
"""

from datetime import UTC, datetime
from pathlib import Path

from assetgen_pipeline.settings import Settings

_LOCK = "up.lock"


def stack_lock(home: Path) -> Path:
    """The lock of this HOME's only place for a stack."""
    return home / _LOCK


def stopped_at(home: Path) -> datetime | None:
    """When the last stack of this HOME was stopped in order; `None` where it was not."""
    lock = stack_lock(home)
    if not lock.exists() or lock.read_bytes():
        return None
    return datetime.fromtimestamp(lock.stat().st_mtime, UTC)


def daemons_stopped_at(settings: Settings) -> datetime | None:
    """The instant up to which heartbeats are those of daemons that were stopped since.

    `None` where nobody can tell: only an instance under HOME has no daemons but its own stack's.
    """
    return stopped_at(settings.home) if settings.owns_dagster_home else None
