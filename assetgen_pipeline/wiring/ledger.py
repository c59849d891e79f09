"""The ledger: a SQLite file under `HOME`, or the database that the settings name."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.settings import Settings

if TYPE_CHECKING:
    from assetgen_pipeline.adapters.sql_ledger import SqlLedger
from assetgen_pipeline.wiring.clock import open_clock


@contextmanager
def open_ledger(settings: Settings) -> Iterator["SqlLedger"]:
    """Open the ledger; an absent SQLite ledger is created.

    Raises:
        LedgerUnavailable: it cannot be reached, or its schema is not this release's.
    """
    from assetgen_pipeline.adapters.sql_ledger import require_schema

    with unchecked_ledger(settings) as ledger:
        require_schema(ledger_url(settings))
        yield ledger


@contextmanager
def unchecked_ledger(settings: Settings) -> Iterator["SqlLedger"]:
    """The ledger as it is, however damaged; only a restore can work with that."""
    from assetgen_pipeline.adapters.sql_ledger import SqlLedger

    settings.home.mkdir(parents=True, exist_ok=True)
    limit = settings.project_daily_limit_usd
    url = ledger_url(settings)
    ledger = SqlLedger(
        url,
        # A database that hosts share has the one clock that all of them go by.
        clock=open_clock() if url.startswith("sqlite") else None,
        time_zone=ZoneInfo(settings.budget_time_zone),
        default_limit=Money.from_usd(settings.daily_limit_usd),
        project_limit=Money.from_usd(limit) if limit is not None else None,
    )
    try:
        yield ledger
    finally:
        ledger.close()


def ledger_url(settings: Settings) -> str:
    """The ledger's URL: the one set, or the SQLite file under `HOME`."""
    return settings.ledger_url or f"sqlite:///{settings.ledger_path}"
