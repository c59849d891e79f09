"""The stack on this machine: bucket, web server and daemon, started and stopped together."""

import http.client
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from assetgen_pipeline.adapters.local_bucket_supervisor import die_with_parent, free_port
from assetgen_pipeline.cli.output import json_option, print_json
from assetgen_pipeline.cli.process_groups import end_groups
from assetgen_pipeline.cli.running import Stopped, stop_signals
from assetgen_pipeline.cli.stack_place import sole_stack
from assetgen_pipeline.domain.errors import AssetgenError
from assetgen_pipeline.settings import Settings, environment_for_children, load_settings
from assetgen_pipeline.wiring.bucket import bucket_kind, emulator_endpoint
from assetgen_pipeline.wiring.clock import open_clock
from assetgen_pipeline.wiring.ledger import ledger_url
from assetgen_pipeline.wiring.readiness import require_ready

_READY_S = 300.0
_STOPPING = "stopping: calls in flight, if any, finish (Ctrl-C again ends them)"
# As long as `run` lets its calls in flight finish; systemd kills after 90 s.
_STOP_S = 60.0
_MODULE = "assetgen_pipeline.definitions"


class StackFailed(AssetgenError):
    """The web server or the daemon did not come up, or ended."""

    code = "stack-failed"
    fix = (
        "Start it again (deploy/assetgen.service does): batches in flight are finished, nothing"
        " delivered is paid again. If it ends again, the log says why; `assetgen doctor` checks"
        " what it needs."
    )


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
        self._began = open_clock().now()
        programs = Path(sys.executable).parent
        web = ["dagster-webserver", "-h", "127.0.0.1", "-p", str(self.port), "-m", _MODULE]
        daemon = ["dagster-daemon", "run", "-m", _MODULE]
        form = "colored" if settings.log_format == "text" else "json"
        self._processes = {
            command[0]: self._start(
                [str(programs / command[0]), *command[1:], "--log-format", form], command[0]
            )
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
                preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509
            )

    def ready(self) -> None:
        """Wait until the web server answers and each daemon of this stack had a heartbeat.

        Raises:
            StackFailed: one of them ended, or took longer than five minutes.
        """
        from assetgen_pipeline.defs import control

        pause = threading.Event()
        clock = open_clock()
        deadline = clock.monotonic() + _READY_S
        while clock.monotonic() < deadline:
            self.check()
            beating = control.daemons_beating(self._settings, since=self._began)
            if answers(self.port) and all(beating.values()):
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
                how = _how_it_ended(process.returncode)
                message = f"{name} ended ({how}); see {self.logs}/{name}.log"
                raise StackFailed(message)

    def stop(self) -> None:
        """End both with everything they started: TERM, time for paid calls in flight, then KILL.

        Raises:
            Stopped: a second signal came; all were killed at once.
        """
        end_groups(
            list(self._processes.values()),
            within_s=_STOP_S,
            say=lambda: click.echo(_STOPPING, err=True),
        )


def _how_it_ended(returncode: int) -> str:
    if returncode >= 0:
        return f"exit code {returncode}"
    name = signal.Signals(-returncode).name
    return f"killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")


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
    """Upgrade the ledger, sweep what died, start the stack, and stop it at the end.

    Raises:
        StackHeld: another stack runs in this HOME.
    """
    from assetgen_pipeline.adapters.sql_ledger import upgrade_schema
    from assetgen_pipeline.defs import control

    with sole_stack(settings.home):
        upgrade_schema(ledger_url(settings))
        control.sweep_dead_runs(settings, launches_here=True)
        stack = Stack(settings, port=port)
        try:
            yield stack
        finally:
            stack.stop()


@click.command()
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="The web server's port; a free one by default.",
)
@json_option
def up(port: int | None, *, as_json: bool) -> int:
    """Start bucket, web server and daemon on this machine, until Ctrl-C.

    Ends with exit code 1 where one of them ends by itself, so that a supervisor starts it again, and with 0
    where it was told to stop.
    """
    settings = load_settings()
    require_ready(settings)
    try:
        with stop_signals(), running_stack(settings, port=port) as stack:
            stack.ready()
            _say_where(stack, settings, as_json=as_json)
            try:
                wait_until_stopped(stack)
            except StackFailed as error:
                # At once: to stop the rest takes up to a minute.
                click.echo(f"{error}; the rest is stopped", err=True)
                raise
    except Stopped:
        click.echo("stopped", err=as_json)
    return 0


def _say_where(stack: Stack, settings: Settings, *, as_json: bool) -> None:
    if as_json:
        document = {
            "bucket": settings.bucket,
            "bucket_kind": bucket_kind(settings),
            "storage": emulator_endpoint(settings),
            "dagster": stack.url,
            "graph": stack.graph_url,
            "logs": str(stack.logs),
        }
        print_json(document)
        sys.stdout.flush()
        return
    click.echo(f"bucket   {settings.bucket}  ({bucket_kind(settings)})")
    click.echo(f"dagster  {stack.graph_url}")
    click.echo(f"logs     {stack.logs}")
    click.echo("submit   assetgen submit FILE --owner NAME --watch      Ctrl-C stops it all")


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
