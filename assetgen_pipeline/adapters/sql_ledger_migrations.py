"""The ledger's schema versions: which one a database has, and how it gets the newest.

The version table is our own, because Dagster keeps one by Alembic's default name and may
share the database. A revision's first two digits are the release that brought it. Revisions
are additive for one release, so a schema that is one release ahead can be used, and a
deployment can be rolled back without touching its ledger.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from assetgen_pipeline.adapters.sql_ledger_engine import LedgerDatabase, translated_errors
from assetgen_pipeline.domain.errors import LedgerSchemaError

MIGRATIONS = Path(__file__).with_name("migrations")
VERSION_TABLE = "budget_alembic_version"
_ADVISORY_LOCK = 7_305_811_202


def schema_state(url: str) -> tuple[str | None, str]:
    """The revision that the database has (`None`: no ledger there yet), and the newest one.

    Raises:
        LedgerUnavailable: the database cannot be reached or read.
    """
    database = LedgerDatabase(url)
    try:
        return database_state(database)
    finally:
        database.close()


def upgrade_schema(url: str, *, lock_path: Path | None = None, revision: str = "head") -> None:
    """Create or upgrade the schema, in one transaction that only one process runs at a time.

    A schema that is one release ahead is left as it is.

    Raises:
        LedgerSchemaError: the schema is more than one release ahead.
        LedgerUnavailable: the database cannot be reached or read.
    """
    database = LedgerDatabase(url, lock_path)

    def work(connection: Connection) -> None:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        if _is_ahead(_current(connection)):
            return
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    if database.is_sqlite and database.path is not None:
        with translated_errors():
            database.path.parent.mkdir(parents=True, exist_ok=True)
    try:
        database.write(work)
    finally:
        database.close()


def require_schema(url: str, *, lock_path: Path | None = None) -> None:
    """Make sure of a schema that can be used; an absent SQLite ledger is created.

    Raises:
        LedgerSchemaError: the schema is older, more than one release ahead, or absent from
            PostgreSQL.
        LedgerUnavailable: the database cannot be reached or read.
    """
    current, head = schema_state(url)
    if current is None and LedgerDatabase(url).is_sqlite:
        upgrade_schema(url, lock_path=lock_path)
        return
    if current != head and not _is_ahead(current):
        raise LedgerSchemaError("the ledger's schema is absent or older; run assetgen doctor --fix")


def database_state(database: LedgerDatabase) -> tuple[str | None, str]:
    """As `schema_state`, for a database at hand; a file that is absent is not created.

    Raises:
        LedgerUnavailable: the database cannot be reached or read.
    """
    head = _scripts().get_current_head() or ""
    if database.is_sqlite and (database.path is None or not database.path.exists()):
        return None, head
    return database.read(_current), head


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    # A constant of ours, which SQL cannot take as a parameter.
    statement = text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608
    found: str | None = connection.execute(statement).scalar()
    return found


def _is_ahead(current: str | None) -> bool:
    """Whether the schema is of the next release.

    Raises:
        LedgerSchemaError: it is of a later one.
    """
    scripts = _scripts()
    known = {script.revision for script in scripts.walk_revisions()}
    if current is None or current in known:
        return False
    if _release(current) == _release(scripts.get_current_head() or "") + 1:
        return True
    raise LedgerSchemaError("the ledger's schema is more than one release ahead of this one")


def _release(revision: str) -> int:
    digits = revision[:2]
    return int(digits) if digits.isdecimal() else -1


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
