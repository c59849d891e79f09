"""The verb that executes one file, and how every verb executes: in a child process.

The parent only watches, so that Ctrl-C always ends it: an order to stop first, so that calls
in flight finish; then TERM, KILL if it stays, and the batch is closed with what was delivered.
"""

import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from assetgen_pipeline.cli.batches import checked_batch_id, follow, note_unfetched
from assetgen_pipeline.cli.files import FILE
from assetgen_pipeline.cli.operator import operator_name
from assetgen_pipeline.cli.output import finish, json_option
from assetgen_pipeline.cli.progress_display import PlainDisplay, open_display
from assetgen_pipeline.cli.watching import StatusFollower
from assetgen_pipeline.domain.bucket_layout import BatchFolder, checked_owner, slug
from assetgen_pipeline.domain.errors import LedgerUnavailable, StorageUnavailable
from assetgen_pipeline.domain.status import BatchState, BatchStatus, exit_code, is_terminal
from assetgen_pipeline.ports.object_store import ObjectStore
from assetgen_pipeline.settings import Settings, environment_for_children, load_settings
from assetgen_pipeline.stages.batch_status import read_status, write_status
from assetgen_pipeline.stages.close_batch import fail_without_ledger
from assetgen_pipeline.stages.orders import order_cancel
from assetgen_pipeline.stages.parse_batch import CSV_TYPE, claim_metadata
from assetgen_pipeline.stages.pausing import read_pauses
from assetgen_pipeline.stages.waiting_batches import read_waiting, stop_waiting
from assetgen_pipeline.wiring.bucket import open_object_store, revive_bucket
from assetgen_pipeline.wiring.clock import open_clock
from assetgen_pipeline.wiring.ledger import unchecked_ledger
from assetgen_pipeline.wiring.readiness import require_prices, require_ready
from assetgen_pipeline.wiring.services import open_services

# How long calls in flight may take after Ctrl-C, and after TERM, which machines send.
_GRACE_S = {int(signal.SIGINT): 60.0, int(signal.SIGTERM): 20.0}
_TERM_S = 20.0
_PAUSED_POLL_S = 2.0


class Stopped(click.exceptions.Exit):
    """A signal asked this command to end; the exit code is 128 and the signal's number."""

    def __init__(self, signum: int) -> None:
        """Remember which."""
        super().__init__(128 + signum)
        self.signum = signum


@contextmanager
def stop_signals() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `Stopped`."""

    def stop(signum: int, _frame: FrameType | None) -> NoReturn:
        raise Stopped(signum)

    former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def noted_signals() -> Iterator[Callable[[], int]]:
    """Inside, tells the number of the last signal that came, whoever handles it; 0 without one.

    Dagster makes one error of SIGINT and SIGTERM.
    """
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    former = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def last() -> int:
        try:
            return os.read(reader, 4096)[-1]
        except BlockingIOError:
            return 0

    try:
        yield last
    finally:
        signal.set_wakeup_fd(former)
        os.close(reader)
        os.close(writer)


@click.command()
@click.argument("file", type=FILE)
@click.option("--owner", required=True, help="The budget account.")
@click.option("--dry-run", is_flag=True, help="Validate and price only.")
@json_option
def run(file: Path, owner: str, *, dry_run: bool, as_json: bool) -> int:
    """Run FILE as a new batch in this process; no daemon needed."""
    settings = load_settings()
    require_prices(settings) if dry_run else require_ready(settings)
    batch_id = f"{checked_owner(owner)}.{slug(file.stem)}.{secrets.token_hex(4)}"
    with stop_signals(), open_object_store(settings) as store:
        clock = open_clock()
        store.create(
            BatchFolder(batch_id).request,
            file.read_bytes(),
            content_type=CSV_TYPE,
            metadata=claim_metadata(run_id="", dry_run=dry_run, clock=clock),
        )
        write_status(batch_id, BatchState.RECEIVED, store=store, clock=clock)
        return execute_and_watch(batch_id, settings=settings, store=store, as_json=as_json)


@click.command(hidden=True)
@click.argument("batch")
def execute(batch: str) -> int:
    """Execute the run of BATCH in this process; other verbs start it as their child."""
    from assetgen_pipeline.defs import control

    return 0 if control.execute_batch(checked_batch_id(batch), load_settings()) else 1


def execute_and_watch(
    batch_id: str, *, settings: Settings, store: ObjectStore, as_json: bool
) -> int:
    """Execute a batch in a child process and follow it; the exit code that it means.

    A batch that is paused meanwhile waits here, holding nothing, and goes on once resumed.
    Dagster is loaded by the child alone, and here only where the child was killed.
    """
    log = settings.home / "logs" / f"{batch_id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    if not as_json:
        click.echo(f"log {log}", err=True)
    stopped: Stopped | None = None
    try:
        while _execute_once(batch_id, log, settings=settings, store=store, as_json=as_json):
            _wait_for_resume(batch_id, store=store)
            # Resumed: this command takes it up itself, faster than a daemon would.
            stop_waiting(batch_id, store=store)
    except Stopped as signalled:
        stopped = signalled
    status = read_status(batch_id, store=store)
    if not _rests(status, store=store):
        ended = _end_killed(batch_id, settings, store=store, cancelled=stopped is not None)
        if not ended and stopped is None:
            # Another run was faster; this one ended quietly.
            return follow(batch_id, settings=settings, store=store, as_json=as_json)
        status = read_status(batch_id, store=store)
    code = finish(status, as_json=as_json)
    if not as_json:
        note_unfetched(batch_id, store=store)
    return 128 + stopped.signum if stopped is not None else code


def _end_killed(batch_id: str, settings: Settings, *, store: ObjectStore, cancelled: bool) -> bool:
    """End the batch of a child that could not; `False` where another run works on it."""
    from assetgen_pipeline.defs import control

    try:
        return control.end_killed(batch_id, settings, cancelled=cancelled)
    except LedgerUnavailable as error:
        with (
            unchecked_ledger(settings) as ledger,
            open_services(settings, store=store, ledger=ledger) as services,
        ):
            fail_without_ledger(batch_id, error, services=services)
        return True


def _rests(status: BatchStatus, *, store: ObjectStore) -> bool:
    """Whether the batch has ended, or waits for approval."""
    if status.state is BatchState.AWAITING_APPROVAL:
        return read_waiting(status.batch_id, store=store) is not None
    return is_terminal(status.state)


def _execute_once(
    batch_id: str, log: Path, *, settings: Settings, store: ObjectStore, as_json: bool
) -> bool:
    """Execute the batch once; whether a pause suspended it.

    Raises:
        Stopped: a signal came; the child has ended.
    """
    with log.open("ab") as output:
        child = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "assetgen_pipeline", "execute", batch_id],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment_for_children(settings),
            start_new_session=True,
        )
        try:
            _follow(child, batch_id, settings=settings, store=store, as_json=as_json)
        except Stopped as signalled:
            _stop_child(child, batch_id, signalled, settings=settings, store=store)
            raise
        finally:
            end_process(child)
    waiting = read_waiting(batch_id, store=store)
    return waiting is not None and waiting.cause == "pause"


def _wait_for_resume(batch_id: str, *, store: ObjectStore) -> None:
    """Stay until no pause stops the batch, or somebody else has taken it up or ended it."""
    pause, said = threading.Event(), ""
    while True:
        waiting = read_waiting(batch_id, store=store)
        if waiting is None or waiting.cause != "pause":
            return
        stopping = read_pauses(store=store).stopping(waiting.owner, waiting.provider)
        if stopping is None:
            return
        if stopping.sentence() != said:
            said = stopping.sentence()
            click.echo(f"{said}; waiting (Ctrl-C cancels the batch)", err=True)
        pause.wait(_PAUSED_POLL_S)


def _stop_child(
    child: subprocess.Popen[bytes],
    batch_id: str,
    stopped: Stopped,
    *,
    settings: Settings,
    store: ObjectStore,
) -> None:
    """Cancel the batch: calls in flight finish, unless a second signal or the grace says no."""
    click.echo("stopping: calls in flight finish (Ctrl-C again ends them)", err=True)
    try:
        order_cancel(batch_id, by=operator_name(), store=store, clock=open_clock())
        child.wait(timeout=_GRACE_S[stopped.signum])
    except (StorageUnavailable, subprocess.TimeoutExpired, Stopped):
        from assetgen_pipeline.defs import control

        control.mark_cancelling(batch_id, settings)


def _follow(
    child: subprocess.Popen[bytes],
    batch_id: str,
    *,
    settings: Settings,
    store: ObjectStore,
    as_json: bool,
) -> None:
    display = PlainDisplay() if as_json else open_display(open_clock())
    follower = StatusFollower(
        batch_id, store=store, reconnect=lambda: revive_bucket(settings), say=display.say
    )
    try:
        while True:
            try:
                child.wait(timeout=follower.wait_s())
            except subprocess.TimeoutExpired:
                snapshot = follower.look()
                # How the batch ends is said once, on stdout.
                if snapshot is None or as_json or exit_code(snapshot.status.state) is not None:
                    continue
                display.show(snapshot)
            else:
                return
    finally:
        display.close()


def end_process(child: subprocess.Popen[bytes]) -> None:
    """End a child: TERM, and KILL if it stays, or if a signal says that it is to end at once."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=_TERM_S)
    finally:
        child.kill()
        child.wait()
