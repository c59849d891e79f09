"""A HOME's only place for a stack: who has it, and since when."""

import fcntl
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from assetgen_pipeline.cli.running import Stopped
from assetgen_pipeline.domain.errors import AssetgenError
from assetgen_pipeline.wiring.stack_record import stack_lock, stopped_at


class StackHeld(AssetgenError):
    """Another stack runs in this HOME."""

    code = "stack-held"
    fix = "Use that one, stop it first, or set ASSETGEN_HOME to another folder."


@contextmanager
def sole_stack(home: Path) -> Iterator[None]:
    """Hold this HOME's only place for a stack; the kernel lets go of it however we end.

    The holder's id stands in the file, unless it was stopped in order.

    Raises:
        StackHeld: another process has it.
    """
    home.mkdir(parents=True, exist_ok=True)
    with stack_lock(home).open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            message = f"process {lock.read().strip() or '?'} runs a stack in {home}"
            raise StackHeld(message) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        try:
            yield
        except Stopped:
            lock.truncate(0)
            raise
        lock.truncate(0)


def stack_age_s(home: Path, *, now: datetime) -> float:
    """Seconds since a stack was started in this HOME; infinite where none was, or was stopped."""
    lock = stack_lock(home)
    if not lock.exists() or stopped_at(home) is not None:
        return math.inf
    return max(0.0, now.timestamp() - lock.stat().st_mtime)
