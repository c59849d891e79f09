"""A private PostgreSQL cluster per test process: own directory, own port, stopped by its own id."""

import atexit
import contextlib
import functools
import getpass
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from assetgen_pipeline.adapters.sql_ledger import upgrade_schema
from assetgen_pipeline_tests.ports import free_port
from assetgen_pipeline_tests.processes import until

_TEMPLATE = "ledger_template"


@dataclass
class Cluster:
    directory: Path
    port: int
    user: str
    bin_directory: Path
    arguments: list
    as_user: dict
    process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.arguments, cwd=self.directory, stdout=log, stderr=log, **self.as_user
            )
        _wait(self, self.bin_directory)

    def kill(self) -> None:
        """End the server at once, as a crash of it would (`pg_ctl stop -m immediate`)."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()

    def start_again(self) -> None:
        """Start it after a crash; it recovers from its log."""
        self.start()

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{self.user}@127.0.0.1:{self.port}/{database}"

    def create_database(self, template: str = "template1") -> str:
        """A new database's name."""
        name = f"d{secrets.token_hex(6)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def create_ledger(self) -> str:
        """The URL of a new database that has the ledger's schema."""
        return self.url(self.create_database(_TEMPLATE))

    def make_template(self) -> None:
        self._execute(f"CREATE DATABASE {_TEMPLATE}")
        upgrade_schema(self.url(_TEMPLATE))

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _execute(self, statement: str) -> None:
        address = f"host=127.0.0.1 port={self.port} user={self.user} dbname=postgres"
        with contextlib.closing(psycopg.connect(address, autocommit=True)) as connection:
            connection.execute(statement)


def require_cluster() -> Cluster:
    """The cluster of this test process; skips where PostgreSQL is not installed (fails in CI)."""
    try:
        return _start()
    except FileNotFoundError as error:
        if os.environ.get("CI") == "true":  # noqa: TID251
            pytest.fail(f"CI must have PostgreSQL: {error}")
        pytest.skip(str(error))


@functools.cache
def _start() -> Cluster:
    return new_cluster()


def new_cluster(*, durable: bool = False) -> Cluster:
    """A cluster of its own, for tests that kill it and for benchmarks; stop it.

    `durable` waits for the disk at each commit, as production does.
    """
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=str)
    if not programs:
        raise FileNotFoundError("no PostgreSQL server under /usr/lib/postgresql")
    bin_directory = programs[-1].parent
    user = _unprivileged_user()
    directory = Path(tempfile.mkdtemp(prefix="assetgen-pg-"))
    if user != getpass.getuser():
        os.chown(directory, pwd.getpwnam(user).pw_uid, -1)
    as_user = {"user": user} if os.getuid() == 0 else {}
    data = directory / "data"
    subprocess.run(
        [
            bin_directory / "initdb",
            "-D",
            data,
            "-U",
            user,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
            "--locale=C",
        ],
        check=True,
        capture_output=True,
        cwd=directory,
        **as_user,
    )
    port = free_port()
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": str(directory),
        "port": str(port),
        "fsync": "on" if durable else "off",
        "max_connections": "100",
        "shared_buffers": "16MB",
    }
    arguments = [str(bin_directory / "postgres"), "-D", str(data)]
    arguments += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    if shutil.which("setpriv"):
        # The server goes when we are killed, too.
        arguments = ["setpriv", "--pdeathsig", "INT", "--", *arguments]
    cluster = Cluster(directory, port, user, bin_directory, arguments, as_user)
    atexit.register(cluster.stop)
    try:
        cluster.start()
        cluster.make_template()
    except BaseException:
        cluster.stop()
        raise
    return cluster


def _wait(cluster: Cluster, bin_directory: Path) -> None:
    command = [
        bin_directory / "pg_isready",
        "-q",
        "-h",
        "127.0.0.1",
        "-p",
        str(cluster.port),
        "-t",
        "20",
    ]

    def answers():
        assert cluster.process.poll() is None, (cluster.directory / "log").read_text()
        return subprocess.run(command, check=False).returncode == 0

    until(answers)


def _unprivileged_user() -> str:
    if os.getuid() != 0:
        return getpass.getuser()
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"
