"""Follow a batch by its `status.json`: survives everything but the bucket's data going away."""

import random
import sys
import threading

import click

from assetgen_pipeline.cli.output import finish, status_line
from assetgen_pipeline.domain.errors import BatchNotFound, StorageUnavailable
from assetgen_pipeline.domain.status import BatchStatus, is_terminal
from assetgen_pipeline.ports import ObjectStore
from assetgen_pipeline.stages.batch_status import read_status

_POLL_S = 1.0
_LONGEST_WAIT_S = 30.0


class StatusFollower:
    """Reads the status again and again; says when the bucket is away, and reconnects."""

    def __init__(self, batch_id: str, *, store: ObjectStore) -> None:
        """Follow one batch."""
        self._batch_id = batch_id
        self._store = store
        self._lost = 0
        self._last = ""

    def read(self) -> BatchStatus | None:
        """The status now, `None` while it is not there or the bucket is away."""
        try:
            status = read_status(self._batch_id, store=self._store)
        except BatchNotFound:
            return None
        except StorageUnavailable:
            if not self._lost:
                click.echo("bucket unreachable; trying again", err=True)
            self._lost += 1
            return None
        if self._lost:
            click.echo("bucket is back", err=True)
        self._lost = 0
        return status

    def wait_s(self) -> float:
        """Seconds until the next look: exponential with jitter while the bucket is away."""
        if not self._lost:
            return _POLL_S
        # Jitter, not cryptography.
        return min(_POLL_S * 2.0**self._lost, _LONGEST_WAIT_S) * random.uniform(0.5, 1.0)  # noqa: S311

    def show(self, status: BatchStatus) -> None:
        """Print a line for people where something changed; on a terminal in place."""
        line = status_line(status)
        if line == self._last:
            return
        self._last = line
        if sys.stderr.isatty():
            click.echo("\r\033[K" + line, nl=False, err=True)
        else:
            click.echo(line, err=True)

    def end_line(self) -> None:
        """Leave the line that was rewritten in place."""
        if self._last and sys.stderr.isatty():
            click.echo("", err=True)


def watch_batch(batch_id: str, *, store: ObjectStore, as_json: bool) -> int:
    """Follow a batch until it ends; the exit code that its state means."""
    follower = StatusFollower(batch_id, store=store)
    pause = threading.Event()
    while True:
        status = follower.read()
        if status is not None and is_terminal(status.state):
            follower.end_line()
            return finish(status, as_json=as_json)
        if status is not None and not as_json:
            follower.show(status)
        pause.wait(follower.wait_s())
