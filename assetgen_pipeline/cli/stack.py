"""The stack on this machine: bucket, web server and daemon, started and stopped together."""

import ctypes
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from assetgen_pipeline import wiring
from assetgen_pipeline.cli.running import Stopped, stop_signals
from assetgen_pipeline.domain.errors import AssetgenError
from assetgen_pipeline.settings import Settings, environment_for_children, load_settings

_READY_S = 300.0
_STOP_S = 15.0
_PR_SET_PDEATHSIG = 1
_MODULE = "assetgen_pipeline.definitions"


class StackFailed(AssetgenError):
    """The web server or the daemon did not come up, or ended."""

    fix = "Read the log named; `assetgen doctor` checks what they need."


class Stack:
    """The two Dagster processes of this machine; both die with this one."""

    def __init__(self, settings: Settings, *, port: int | None = None) -> None:
        """Start both; `ready` waits for them."""
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.graph_url = f"{self.url}/locations/__repository__@{_MODULE}/asset-groups/batches"
        self.logs = settings.home / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self._settings = settings
        programs = Path(sys.executable).parent
        web = ["dagster-webserver", "-h", "127.0.0.1", "-p", str(self.port), "-m", _MODULE]
        daemon = ["dagster-daemon", "run", "-m", _MODULE]
        self._processes = {
            command[0]: self._start([str(programs / command[0]), *command[1:]], command[0])
            for command in (web, daemon)
        }

    def _start(self, command: list[str], name: str) -> subprocess.Popen[bytes]:
        with (self.logs / f"{name}.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - programs of our own environment
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment_for_children(self._settings),
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
            )

    def ready(self) -> None:
        """Wait until the web server answers and the daemons have a heartbeat.

        Raises:
            StackFailed: one of them ended, or took longer than five minutes.
        """
        from assetgen_pipeline.defs import control

        pause = threading.Event()
        clock = wiring.open_clock()
        deadline = clock.monotonic() + _READY_S
        while clock.monotonic() < deadline:
            self.check()
            if answers(self.port) and all(control.daemons_healthy(self._settings).values()):
                return
            pause.wait(0.25)
        message = f"not ready within {_READY_S:.0f} s; logs in {self.logs}"
        raise StackFailed(message)

    def check(self) -> None:
        """See that both processes live.

        Raises:
            StackFailed: one has ended.
        """
        for name, process in self._processes.items():
            if process.poll() is not None:
                message = f"{name} ended with code {process.returncode}; see {self.logs}/{name}.log"
                raise StackFailed(message)

    def stop(self) -> None:
        """End both with everything they started: TERM, then KILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self._processes.values():
                _signal_session(process, number)
            for process in self._processes.values():
                try:
                    process.wait(timeout=_STOP_S)
                except subprocess.TimeoutExpired:
                    continue


def _signal_session(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def _die_with_parent() -> None:
    """Ask the kernel to end this child when its parent dies, also by SIGKILL."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def answers(port: int) -> bool:
    """Whether the web server serves its GraphQL end point."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        query = "/graphql?query=%7B__typename%7D"
        connection.request("GET", query)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def running_stack(settings: Settings, *, port: int | None = None) -> Iterator[Stack]:
    """Upgrade the ledger, sweep what died, start the stack, and stop it at the end."""
    from assetgen_pipeline.adapters.sql_ledger import upgrade_schema
    from assetgen_pipeline.defs import control

    settings.home.mkdir(parents=True, exist_ok=True)
    upgrade_schema(wiring.ledger_url(settings))
    control.sweep_dead_runs(settings)
    stack = Stack(settings, port=port)
    try:
        yield stack
    finally:
        stack.stop()


@click.command()
@click.option("--port", type=int, help="The web server's port; a free one by default.")
def up(port: int | None) -> int:
    """Start bucket, web server and daemon on this machine, until Ctrl-C."""
    settings = load_settings()
    try:
        with stop_signals(), running_stack(settings, port=port) as stack:
            stack.ready()
            click.echo(f"bucket   {settings.bucket}  ({wiring.bucket_kind(settings)})")
            click.echo(f"dagster  {stack.graph_url}")
            click.echo(f"logs     {stack.logs}")
            click.echo(
                "submit   assetgen submit FILE --owner NAME --watch      Ctrl-C stops it all"
            )
            wait_until_stopped(stack)
    except Stopped:
        click.echo("stopped")
    return 0


def wait_until_stopped(stack: Stack) -> None:
    """Stay until a signal comes.

    Raises:
        Stopped: it came.
        StackFailed: a process ended by itself.
    """
    pause = threading.Event()
    while True:
        pause.wait(1.0)
        stack.check()
