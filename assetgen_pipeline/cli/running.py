"""Verbs that execute: run a file, finish a batch. Each works in a child process.

The parent only watches, so that Ctrl-C always ends it: TERM to the child, KILL if it stays,
then the batch is closed with whatever was delivered.
"""

import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from assetgen_pipeline import wiring
from assetgen_pipeline.cli.batches import checked_batch_id
from assetgen_pipeline.cli.files import FILE
from assetgen_pipeline.cli.output import finish, json_option
from assetgen_pipeline.cli.watching import StatusFollower
from assetgen_pipeline.domain.bucket_layout import BatchFolder, checked_owner, slug
from assetgen_pipeline.domain.errors import BatchNotFound
from assetgen_pipeline.domain.status import BatchState, is_terminal
from assetgen_pipeline.ports import ObjectStore
from assetgen_pipeline.settings import Settings, environment_for_children, load_settings
from assetgen_pipeline.stages.batch_status import read_status, write_status
from assetgen_pipeline.stages.parse_batch import CSV_TYPE, claim_metadata

_GRACE_S = 20.0


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


@click.command()
@click.argument("file", type=FILE)
@click.option("--owner", required=True, help="The budget account.")
@click.option("--dry-run", is_flag=True, help="Validate and price only.")
@json_option
def run(file: Path, owner: str, *, dry_run: bool, as_json: bool) -> int:
    """Run FILE as a new batch in this process; no daemon needed."""
    settings = load_settings()
    batch_id = f"{checked_owner(owner)}.{slug(file.stem)}.{secrets.token_hex(4)}"
    with stop_signals(), wiring.open_object_store(settings) as store:
        clock = wiring.open_clock()
        store.create(
            BatchFolder(batch_id).request,
            file.read_bytes(),
            content_type=CSV_TYPE,
            metadata=claim_metadata(run_id="", dry_run=dry_run, clock=clock),
        )
        write_status(batch_id, BatchState.RECEIVED, store=store, clock=clock)
        return execute_and_watch(batch_id, settings=settings, store=store, as_json=as_json)


@click.command()
@click.argument("batch")
@json_option
def retry(batch: str, *, as_json: bool) -> int:
    """Finish BATCH: only what is not delivered; a refused batch reserves afresh."""
    settings = load_settings()
    with stop_signals(), wiring.open_object_store(settings) as store:
        folder = BatchFolder(checked_batch_id(batch))
        if store.stat(folder.request) is None:
            message = f"no batch {batch}"
            raise BatchNotFound(message)
        store.delete(folder.control)
        clock = wiring.open_clock()
        write_status(batch, BatchState.RECEIVED, store=store, clock=clock, finished_at=None)
        return execute_and_watch(batch, settings=settings, store=store, as_json=as_json)


@click.command(hidden=True)
@click.argument("batch")
def execute(batch: str) -> int:
    """Execute the run of BATCH in this process; `run` and `retry` start it as their child."""
    from assetgen_pipeline.defs import control

    return 0 if control.execute_batch(checked_batch_id(batch), load_settings()) else 1


def execute_and_watch(
    batch_id: str, *, settings: Settings, store: ObjectStore, as_json: bool
) -> int:
    """Execute a batch in a child process and follow it; the exit code that it means.

    Dagster is loaded by the child alone, and here only where the child was killed.
    """
    log = settings.home / "logs" / f"{batch_id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    if not as_json:
        click.echo(f"log {log}", err=True)
    stopped: Stopped | None = None
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
            _follow(child, batch_id, store=store, as_json=as_json)
        except Stopped as signalled:
            stopped = signalled
        finally:
            end_process(child)
    status = read_status(batch_id, store=store)
    if not is_terminal(status.state):
        from assetgen_pipeline.defs import control

        control.end_killed(batch_id, settings, cancelled=stopped is not None)
        status = read_status(batch_id, store=store)
    code = finish(status, as_json=as_json)
    return 128 + stopped.signum if stopped is not None else code


def _follow(
    child: subprocess.Popen[bytes], batch_id: str, *, store: ObjectStore, as_json: bool
) -> None:
    follower = StatusFollower(batch_id, store=store)
    while True:
        try:
            child.wait(timeout=follower.wait_s())
        except subprocess.TimeoutExpired:
            status = follower.read()
            if status is not None and not as_json:
                follower.show(status)
        else:
            follower.end_line()
            return


def end_process(child: subprocess.Popen[bytes]) -> None:
    """End a child: TERM, and KILL if it stays."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
