"""Backups: a SQLite ledger as a file, a PostgreSQL ledger as an archive of `pg_dump`.

A restore writes into the database that is there, under its lock: processes that have it open
see the restored content, and nobody goes on writing into a file that is no longer the ledger.
"""

import contextlib
import os
import shutil
import sqlite3
import subprocess
from datetime import datetime
from pathlib import Path

from assetgen_pipeline.adapters.sql_ledger_engine import LedgerDatabase, translated_errors
from assetgen_pipeline.adapters.sql_ledger_migrations import VERSION_TABLE, database_state
from assetgen_pipeline.adapters.sql_ledger_schema import metadata
from assetgen_pipeline.domain.errors import LedgerError, LedgerUnavailable

_NO_LEDGER = "the backup holds no ledger"
_TOOL_S = 3600.0
_TOOLS = Path("/usr/lib/postgresql")


def back_up(database: LedgerDatabase, path: Path) -> None:
    """Copy the ledger into a new file, consistently, while it is in use.

    Raises:
        LedgerError: `path` exists already.
        LedgerUnavailable: the ledger cannot be read, or PostgreSQL's tools are not installed.
    """
    if path.exists():
        raise LedgerError("the backup's file exists already")
    if not database.is_sqlite:
        tables = [f"--table={name}" for name in (*metadata.tables, VERSION_TABLE, "v_*")]
        _postgres_tool(database, "pg_dump", "--format=custom", f"--file={path}", *tables)
        return
    with database.exclusive(), translated_errors():
        _copy(_path(database), path)


def restore(database: LedgerDatabase, path: Path, *, now: datetime) -> Path | None:
    """Replace the ledger's content by a backup's; where a SQLite ledger's former one was kept.

    Raises:
        LedgerUnavailable: the backup cannot be read; the ledger is as it was.
    """
    if not path.is_file():
        raise LedgerUnavailable("there is no such file")
    if not database.is_sqlite:
        _restore_archive(database, path)
        return None
    target = _path(database)
    with translated_errors():
        checked = LedgerDatabase(f"sqlite:///{path}")
        current, _head = database_state(checked)
        checked.close()
    if current is None:
        raise LedgerUnavailable(_NO_LEDGER)
    kept = target.with_name(f"{target.name}.before-restore-{now:%Y%m%dT%H%M%S}")
    database.close()
    with database.exclusive(), translated_errors():
        try:
            _copy(target, kept)
        except (sqlite3.DatabaseError, LedgerUnavailable):
            # Absent or damaged: nobody has it open as a database, so the file is replaced.
            return _replace(path, target, kept)
        _copy(path, target)
    return kept


def _replace(path: Path, target: Path, kept: Path) -> Path | None:
    staged = target.with_name(f"{target.name}.restoring")
    staged.unlink(missing_ok=True)
    _copy(path, staged)
    kept.unlink(missing_ok=True)
    had = target.exists()
    if had:
        target.replace(kept)
    for suffix in ("-wal", "-shm"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    staged.replace(target)
    return kept if had else None


def _path(database: LedgerDatabase) -> Path:
    if database.path is None:
        raise LedgerError("the ledger has no file")
    return database.path


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise LedgerUnavailable("there is no such file")
    fresh = not target.exists()
    with (
        contextlib.closing(sqlite3.connect(source)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)
        if fresh:
            # One file, without a journal beside it.
            new.execute("PRAGMA journal_mode = DELETE")


def _restore_archive(database: LedgerDatabase, path: Path) -> None:
    listed = _run(_tool("pg_restore"), "--list", str(path), environment={})
    if VERSION_TABLE not in listed:
        raise LedgerUnavailable(_NO_LEDGER)
    _postgres_tool(
        database,
        "pg_restore",
        "--clean",
        "--if-exists",
        "--no-owner",
        "--single-transaction",
        f"--dbname={database.url.database}",
        str(path),
    )


def _postgres_tool(database: LedgerDatabase, name: str, *arguments: str) -> None:
    url = database.url
    environment = {
        "PGHOST": url.host,
        "PGPORT": str(url.port) if url.port else None,
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
    }
    given = {key: str(value) for key, value in environment.items() if value}
    _run(_tool(name), *arguments, environment=given)


def _tool(name: str) -> str:
    """The newest installed one, because it reads every older server."""
    versions = _TOOLS.glob(f"*/bin/{name}")
    found = sorted(versions, key=lambda path: int(path.parts[-3]))
    program = str(found[-1]) if found else shutil.which(name)
    if program is None:
        message = f"{name} is not installed (Debian: postgresql-client)"
        raise LedgerUnavailable(message)
    return program


def _run(*command: str, environment: dict[str, str]) -> str:
    # A password goes in the environment, because others can read arguments.
    variables = {"PATH": os.defpath, "LC_ALL": "C", **environment}
    try:
        done = subprocess.run(  # noqa: S603 - PostgreSQL's own programs
            command, env=variables, capture_output=True, text=True, timeout=_TOOL_S, check=True
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        message = f"{Path(command[0]).name} failed; nothing was restored"
        raise LedgerUnavailable(message) from error
    return done.stdout
