"""Every kind of ledger, behind one fixture."""

from zoneinfo import ZoneInfo

import pytest

from assetgen_pipeline.adapters.sql_ledger import open_sql_ledger
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.ledger import InMemoryLedger
from assetgen_pipeline_tests.ledger_helpers import LIMIT, broken
from assetgen_pipeline_tests.postgres_cluster import require_cluster


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def build_ledger(request, tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.db"
    if request.param == "postgres":
        url = require_cluster().create_ledger()
    opened = []

    def make(clock, *, zone="UTC", limit=LIMIT, project=None):
        settings = {
            "clock": clock,
            "time_zone": ZoneInfo(zone),
            "default_limit": Money(limit),
            "project_limit": None if project is None else Money(project),
        }
        if request.param == "memory":
            return InMemoryLedger(**settings)
        opened.append(open_sql_ledger(url, **settings))
        return opened[-1]

    yield make
    for ledger in opened:
        ledger.close()


@pytest.fixture
def ledger_clock():
    return ManualClock()


@pytest.fixture
def ledger(build_ledger, ledger_clock):
    made = build_ledger(ledger_clock)
    yield made
    assert broken(made) == []
