"""Follow a batch by what stands in the bucket: survives everything but its data going away.

Only state is read, never events, so that nothing is lost or counted twice while the bucket,
the network, the web server or the daemon are away.
"""

import random
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import click

from assetgen_pipeline.cli.output import finish, printable
from assetgen_pipeline.cli.progress_display import PlainDisplay, Snapshot, open_display
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import BatchNotFound, LedgerUnavailable, StorageUnavailable
from assetgen_pipeline.domain.progress import BatchProgress
from assetgen_pipeline.domain.status import BatchState, BatchStatus, is_terminal
from assetgen_pipeline.domain.waiting import Waiting
from assetgen_pipeline.ports.object_store import ObjectStore
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.stages.pausing import read_pauses
from assetgen_pipeline.stages.stage_progress import read_progress
from assetgen_pipeline.stages.stop_batch import find_drop
from assetgen_pipeline.stages.waiting_batches import read_waiting
from assetgen_pipeline.wiring.clock import open_clock

_POLL_S = 1.0
_LONGEST_WAIT_S = 30.0
# Between a drop leaving the inbox and its first status lie moments only.
_LOOKS_UNTIL_UNKNOWN = 5
# How long a dead run's batch is expected to be taken up by the daemon.
_TAKEN_UP_WITHIN = timedelta(minutes=5)
_LEFT_BY = {
    StorageUnavailable.code: "the bucket was away",
    LedgerUnavailable.code: "the ledger was away",
}


def backoff_s(failures: int) -> float:
    """Seconds until the next try after so many failures in a row: exponential, with jitter."""
    # Jitter, not cryptography.
    return min(_POLL_S * 2.0**failures, _LONGEST_WAIT_S) * random.uniform(0.5, 1.0)  # noqa: S311


class StatusFollower:
    """Reads the status again and again; says when the bucket is away, and reconnects."""

    def __init__(
        self,
        batch_id: str,
        *,
        store: ObjectStore,
        reconnect: Callable[[], object] = lambda: None,
        say: Callable[[str], None] = lambda line: click.echo(line, err=True),
    ) -> None:
        """Follow one batch; `reconnect` is called before every look while the bucket is away."""
        self._batch_id = batch_id
        self._store = store
        self._reconnect = reconnect
        self._say = say
        self._lost = 0
        self._unknown = 0
        self.seen_in_inbox = False
        """Whether the batch was a file in the inbox when last looked for."""
        self._wait_s = _POLL_S
        self._clock = open_clock()

    def read(self) -> BatchStatus | None:
        """The status now, `None` while it is not there or the bucket is away."""
        snapshot = self.look()
        return snapshot.status if snapshot is not None else None

    def look(self) -> Snapshot | None:
        """How the batch stands now, `None` while nobody can say.

        Raises:
            BatchNotFound: it stands neither in the outbox nor in the inbox.
        """
        try:
            if self._lost:
                self._reconnect()
            snapshot = self._snapshot()
        except StorageUnavailable:
            self._lost += 1
            self._wait_s = backoff_s(self._lost)
            if self._lost == 1:
                self._say("bucket unreachable; trying again")
            return None
        if self._lost:
            self._say("bucket is back")
        self._lost = 0
        self._wait_s = _POLL_S
        return snapshot

    def wait_s(self) -> float:
        """Seconds until the next look."""
        return self._wait_s

    def _snapshot(self) -> Snapshot | None:
        store = self._store
        try:
            status = read_status(self._batch_id, store=store)
        except BatchNotFound:
            self._expect_it()
            return None
        self._unknown = 0
        if is_terminal(status.state) and status.state is not BatchState.FAILED:
            return Snapshot(status)
        progress = read_progress(self._batch_id, store=store)
        return Snapshot(status, progress, what_holds_it_up(status, progress, store=store))

    def _expect_it(self) -> None:
        folder = BatchFolder(self._batch_id)
        if find_drop(self._batch_id, store=self._store):
            self._unknown = 0
            self.seen_in_inbox = True
            return
        self._unknown = 0 if self._store.stat(folder.request) else self._unknown + 1
        if self._unknown >= _LOOKS_UNTIL_UNKNOWN:
            message = f"no batch {self._batch_id}"
            raise BatchNotFound(message)

    def has_ended(self, snapshot: Snapshot) -> bool:
        """Whether nothing more is to come: a batch whose process died, say, is taken up again."""
        status = snapshot.status
        if status.state is BatchState.AWAITING_APPROVAL:
            return True
        if not is_terminal(status.state):
            return False
        if status.state is not BatchState.FAILED:
            return True
        waiting = read_waiting(self._batch_id, store=self._store)
        if waiting is not None:
            since = waiting.since
        elif status.resumes and status.finished_at is not None:
            # Between its end and its place on the list, or that and the next run's first word.
            since = datetime.fromisoformat(status.finished_at)
        else:
            return True
        return self._clock.now() - since >= _TAKEN_UP_WITHIN


def what_holds_it_up(
    status: BatchStatus, progress: BatchProgress | None, *, store: ObjectStore
) -> str:
    """What a batch waits for, in words; empty where it waits for nothing."""
    waiting = read_waiting(status.batch_id, store=store)
    if waiting is not None:
        return _order_or_daemon(status, waiting, store=store)
    if progress is None or not progress.waits_for or is_terminal(status.state):
        return ""
    return printable(f"waits for {progress.waits_for}")


def _order_or_daemon(status: BatchStatus, waiting: Waiting, *, store: ObjectStore) -> str:
    if waiting.cause == "approval":
        return f"waits for `assetgen approve {status.batch_id}`"
    pause = read_pauses(store=store).stopping(waiting.owner, waiting.provider)
    if pause is not None:
        return pause.sentence()
    if waiting.cause == "pause":
        return "resumed; a daemon takes it up, or `assetgen retry`"
    if status.state is BatchState.FAILED:
        code = status.problem["code"] if status.problem is not None else ""
        return f"{_LEFT_BY.get(str(code), 'its process died')}; a daemon takes it up again"
    return "waits for a daemon to take it up"


def watch_batch(
    batch_id: str,
    *,
    store: ObjectStore,
    as_json: bool,
    reconnect: Callable[[], object] = lambda: None,
) -> int:
    """Follow a batch until it ends or waits for approval; the exit code that its state means.

    Raises:
        BatchNotFound: there is no such batch.
    """
    display = PlainDisplay() if as_json else open_display(open_clock())
    follower = StatusFollower(batch_id, store=store, reconnect=reconnect, say=display.say)
    pause, told = threading.Event(), False
    try:
        while True:
            snapshot = follower.look()
            if follower.seen_in_inbox and not told:
                told = True
                display.say("in the inbox; a daemon takes it from there")
            if snapshot is not None and _ended(follower, snapshot):
                break
            if snapshot is not None and not as_json:
                display.show(snapshot)
            pause.wait(follower.wait_s())
    finally:
        display.close()
    return finish(snapshot.status, as_json=as_json)


def _ended(follower: StatusFollower, snapshot: Snapshot) -> bool:
    try:
        return follower.has_ended(snapshot)
    except StorageUnavailable:
        # The next look says so.
        return False
