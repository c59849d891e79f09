"""The ledger's schema versions: which one a database has, and how it gets the newest.

The version table is our own, because Dagster keeps one by Alembic's default name and may
share the database.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from assetgen_pipeline.adapters.sql_ledger_engine import LedgerDatabase, translated_errors
from assetgen_pipeline.domain.errors import LedgerSchemaError

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

    Raises:
        LedgerSchemaError: the database was made by a newer release.
        LedgerUnavailable: the database cannot be reached or read.
    """
    database = LedgerDatabase(url, lock_path)

    def work(connection: Connection) -> None:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        _refuse_unknown(_current(connection))
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
    """Make sure of the newest schema; an absent SQLite ledger is created.

    Raises:
        LedgerSchemaError: the schema is older, newer, or absent from PostgreSQL.
        LedgerUnavailable: the database cannot be reached or read.
    """
    current, head = schema_state(url)
    if current is None and LedgerDatabase(url).is_sqlite:
        upgrade_schema(url, lock_path=lock_path)
        return
    _refuse_unknown(current)
    if current != head:
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


def _refuse_unknown(current: str | None) -> None:
    known = {script.revision for script in _scripts().walk_revisions()}
    if current is not None and current not in known:
        raise LedgerSchemaError("the ledger's schema was made by a newer release")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
