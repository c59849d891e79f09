"""How the ledger talks to its database: one transaction per call, engines made per process.

SQLite: `BEGIN IMMEDIATE` under a lock file, because a deferred transaction that turns into a
writer fails at once, and because releases before 3.51.3 can lose a commit when two
connections checkpoint together (checkpoints run inside a commit, which the lock covers).
The kernel frees the lock of a killed process. PostgreSQL: READ COMMITTED with row locks.
"""

import contextlib
import fcntl
import logging
import os
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError

from assetgen_pipeline.adapters.sql_ledger_instants import from_us
from assetgen_pipeline.domain.errors import LedgerError, LedgerUnavailable

T = TypeVar("T")
_log = logging.getLogger(__name__)
_TRIES = 6
_BUSY_TIMEOUT_MS = 30_000
_AFFECTED_SQLITE = ((3, 7, 0), (3, 51, 2))
# Deadlock, serialization failure, lock time-out, server going down or starting.
_TRANSIENT = {"40P01", "40001", "55P03", "57P01", "57P02", "57P03"}
_POSTGRES_SETTINGS = (
    "SET lock_timeout = '5s'",
    "SET idle_in_transaction_session_timeout = '30s'",
    "SET synchronous_commit = on",
    "SET plan_cache_mode = force_generic_plan",
)
_POSTGRES_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
_POSTGRES_CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_BEGAN = "began_us"
_NO_DRIVER = "the database driver is not installed (extra `postgres`), or the URL names another"
_UNREACHABLE = "the ledger cannot be reached or read; nothing was changed and nothing is paid"


class _Process:
    """What one process has open; a forked child gets one of its own."""

    def __init__(self, url: URL, lock_path: Path | None, *, tells_time: bool) -> None:
        self.pid = os.getpid()
        self.threads = threading.Lock()
        self.lock_path = lock_path
        self.lock_fd: int | None = None
        if url.get_backend_name() == "sqlite":
            self.writer = _sqlite_engine(url, writes=True)
            self.reader = _sqlite_engine(_read_only(url), writes=False)
        else:
            self.writer = self.reader = _postgres_engine(url, tells_time=tells_time)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock file, where there is one, against other threads and processes."""
        if self.lock_path is None:
            yield
            return
        with self.threads:
            if self.lock_fd is None:
                self.lock_fd = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self.lock_fd, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self.lock_fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close connections under the lock: the last one to close a SQLite file checkpoints it."""
        with self.exclusive():
            self.reader.dispose()
            self.writer.dispose()
        if self.lock_fd is not None:
            os.close(self.lock_fd)
            self.lock_fd = None


class LedgerDatabase:
    """Runs pieces of work as transactions, and turns driver errors into ours."""

    def __init__(
        self, url: str, lock_path: Path | None = None, *, tells_time: bool = False
    ) -> None:
        """Remember where the database is; nothing is opened yet.

        `tells_time`: whether `database_now` will be asked for.

        Raises:
            LedgerUnavailable: not the URL of a SQLite file or a PostgreSQL database.
        """
        try:
            self.url = make_url(url)
            backend = self.url.get_backend_name()
        except ArgumentError as error:
            raise LedgerUnavailable("the ledger's URL cannot be read") from error
        self.path = Path(self.url.database) if self.url.database else None
        if backend not in ("sqlite", "postgresql") or self.path in (None, Path(":memory:")):
            raise LedgerUnavailable("the ledger is a SQLite file or a PostgreSQL database")
        self.is_sqlite = backend == "sqlite"
        self._lock_path = lock_path or (Path(f"{self.path}.lock") if self.is_sqlite else None)
        if not self.is_sqlite:
            self._lock_path = None
        self._tells_time = tells_time
        self._guard = threading.Lock()
        self._process: _Process | None = None
        self._inherited: list[_Process] = []

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` as one transaction, again after a deadlock or a lost connection.

        Raises:
            LedgerUnavailable: the database cannot be reached or read; nothing was changed.
            LedgerError: a constraint refused the change; nothing was changed.
        """
        return self._again(lambda: self._write_once(work))

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on one snapshot, without a lock.

        Raises:
            LedgerUnavailable: the database cannot be reached or read.
        """
        return self._again(lambda: self._read_once(work))

    def _again(self, once: Callable[[], T]) -> T:
        # Connections are not tried out before use: one that was lost shows itself here.
        for left in range(_TRIES - 1, -1, -1):
            with translated_errors():
                try:
                    return once()
                except DBAPIError as error:
                    if not left or not _is_transient(error):
                        raise
                    _log.info("the ledger's transaction is repeated", exc_info=error)
            threading.Event().wait((10 + secrets.randbelow(90)) * (_TRIES - left) / 1000)
        raise AssertionError("unreachable")

    def engine(self) -> Engine:
        """The engine that writes, of this process."""
        return self._opened().writer

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep every other writer of this SQLite file out (PostgreSQL: does nothing)."""
        with translated_errors(), self._opened().exclusive():
            yield

    def close(self) -> None:
        """Close this process's connections; the next call opens new ones."""
        with self._guard:
            process, self._process = self._process, None
        if process is not None and process.pid == os.getpid():
            with translated_errors():
                process.close()

    def _write_once(self, work: Callable[[Connection], T]) -> T:
        process = self._opened()
        with process.exclusive(), process.writer.begin() as connection:
            return work(connection)

    def _read_once(self, work: Callable[[Connection], T]) -> T:
        with self._opened().reader.begin() as connection:
            return work(connection)

    def _opened(self) -> _Process:
        with self._guard:
            if self._process is not None and self._process.pid != os.getpid():
                # The parent's connections stay referenced: closing them here would disturb it.
                self._inherited.append(self._process)
                self._process = None
            if self._process is None:
                try:
                    self._process = _Process(self.url, self._lock_path, tells_time=self._tells_time)
                except ImportError as error:
                    raise LedgerUnavailable(_NO_DRIVER) from error
            return self._process


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Turn what the driver, the pool and the operating system raise into ledger errors."""
    try:
        yield
    except IntegrityError as error:
        raise LedgerError("the ledger's rules refused a change that would not add up") from error
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise LedgerUnavailable(_UNREACHABLE) from error


@contextlib.contextmanager
def driver_errors(connection: Connection) -> Iterator[Any]:
    """The driver's own connection; what it raises is raised as SQLAlchemy does it."""
    driver: Any = connection.connection.driver_connection
    kind = connection.dialect.loaded_dbapi.Error
    try:
        yield driver
    except kind as error:
        lost = connection.dialect.is_disconnect(error, driver, None)
        if lost:
            connection.invalidate(error)
        raise DBAPIError.instance(None, None, error, kind, connection_invalidated=lost) from error


def database_now(connection: Connection) -> datetime:
    """When the transaction began by the database's clock (SQLite's is the host's)."""
    if connection.dialect.name == "postgresql":
        return from_us(connection.info[_BEGAN])
    return datetime.now(UTC)


def note_affected_sqlite(url: str) -> None:
    """Log when the ledger is in SQLite, and in a release of it with the WAL-reset defect."""
    if make_url(url).get_backend_name() != "sqlite":
        return
    if _AFFECTED_SQLITE[0] <= sqlite3.sqlite_version_info <= _AFFECTED_SQLITE[1]:
        _log.info("SQLite %s: ledger writes rely on the lock file", sqlite3.sqlite_version)


def _is_transient(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state in _TRANSIENT or state.startswith("08")


def _read_only(url: URL) -> URL:
    file = f"file:{quote(str(Path(url.database or '').absolute()))}"
    return url.set(database=file, query={"mode": "ro", "uri": "true"})


def _sqlite_engine(url: URL, *, writes: bool) -> Engine:
    engine = create_engine(url, hide_parameters=True, max_overflow=-1)

    def connected(connection: sqlite3.Connection, _record: object) -> None:
        # The driver would otherwise begin by itself, late and deferred.
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        if writes:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine


def _postgres_engine(url: URL, *, tells_time: bool) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        # Not the driver's implicit BEGIN, but the one below.
        isolation_level="AUTOCOMMIT",
        max_overflow=20,
        connect_args={"connect_timeout": 10, "keepalives_idle": 30},
    )

    def connected(connection: Any, _record: object) -> None:  # noqa: ANN401
        with connection.cursor() as cursor:
            for setting in _POSTGRES_SETTINGS:
                cursor.execute(setting)
        connection.commit()

    def begun(connection: Connection) -> None:
        with driver_errors(connection) as driver:
            if not tells_time:
                driver.execute(_POSTGRES_BEGIN, prepare=False)
                return
            answers = driver.execute(f"{_POSTGRES_BEGIN}; {_POSTGRES_CLOCK}", prepare=False)
            answers.nextset()
            connection.info[_BEGAN] = answers.fetchone()[0]

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine
