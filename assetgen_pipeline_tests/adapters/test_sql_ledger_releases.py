"""Rolling a deployment back: the release before this one works on this release's schema.

`ledger_releases/NN.zip` is the ledger's code as release NN had it (`make ledger-release`).
"""

import shutil
import subprocess
import sys
import zipfile
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from assetgen_pipeline.adapters import sql_ledger_migrations
from assetgen_pipeline.adapters.sql_ledger import schema_state, upgrade_schema
from assetgen_pipeline.adapters.sql_ledger_engine import LedgerDatabase
from assetgen_pipeline.adapters.sql_ledger_migrations import MIGRATIONS, VERSION_TABLE
from assetgen_pipeline.domain.errors import LedgerSchemaError
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline_tests.ledger_helpers import broken, capture, open_real, request, reserve
from assetgen_pipeline_tests.postgres_cluster import require_cluster

pytestmark = pytest.mark.timeout(300)
HERE = Path(__file__).parent
REVISIONS = sorted(path.stem[1:5] for path in MIGRATIONS.glob("versions/r*.py"))
HEADS = [
    max(one for one in REVISIONS if one[:2] == release)
    for release in sorted({r[:2] for r in REVISIONS})
]
STEPS = list(pairwise(HEADS))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    cluster = require_cluster()
    return cluster.url(cluster.create_database())


def work_as_release(release, url, folder):
    with zipfile.ZipFile(HERE / "ledger_releases" / f"{release}.zip") as archive:
        archive.extractall(folder)
    driver, now = HERE / "ledger_release_driver.py", ManualClock().now().isoformat()
    command = [sys.executable, "-P", driver, folder, url, now]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "sound\n", done.stderr


def carry_on(url):
    """What a run of this release does with the books that the former one left."""
    with closing(open_real(url, 2000)) as ledger:
        adopted = reserve(ledger, 300, batch="old-2", run="run-3")
        assert adopted.fence == 3
        capture(ledger, ledger.intent(adopted, request("b")), 40)
        assert ledger.expire(adopted) is not None
        assert len(ledger.assumed_attempts()) == 2
        assert broken(ledger) == []
        assert ledger.day("ann").settled == Money(60 + 100 + 100 + 40)


def test_every_former_release_is_kept():
    kept = sorted(path.stem for path in HERE.glob("ledger_releases/*.zip"))
    assert kept == [head[:2] for head in HEADS[:-1]]


@pytest.mark.parametrize(("former", "newer"), STEPS)
def test_the_release_before_works_on_the_newer_schema(empty, tmp_path, former, newer):
    upgrade_schema(empty, revision=newer)
    work_as_release(former[:2], empty, tmp_path / "release")
    upgrade_schema(empty)
    carry_on(empty)


@pytest.mark.parametrize("former", HEADS[:-1])
def test_an_upgrade_keeps_what_a_former_release_booked(empty, tmp_path, former):
    upgrade_schema(empty, revision=former)
    work_as_release(former[:2], empty, tmp_path / "release")
    upgrade_schema(empty)
    carry_on(empty)


def shape(url):
    """Tables and views with their columns: type, whether it may be empty, and its default."""
    database = LedgerDatabase(url)

    def look(connection):
        found = inspect(connection)
        names = [*found.get_table_names(), *found.get_view_names()]
        return {
            name: {
                column["name"]: (str(column["type"]), column["nullable"], column["default"])
                for column in found.get_columns(name)
            }
            for name in names
        }

    with closing(database):
        return database.write(look)


@pytest.mark.parametrize(("former", "newer"), STEPS)
def test_a_release_only_adds_to_the_schema(empty, former, newer):
    upgrade_schema(empty, revision=former)
    before = shape(empty)
    upgrade_schema(empty, revision=newer)
    after = shape(empty)
    assert before.keys() <= after.keys()
    for table, columns in before.items():
        assert columns.items() <= after[table].items()
        added = [after[table][name] for name in after[table].keys() - columns.keys()]
        assert all(nullable or default is not None for _type, nullable, default in added)


@pytest.fixture
def as_former_release(monkeypatch, tmp_path):
    """This code, as it would be without the newest release's revisions."""
    copy = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.glob(f"versions/r{HEADS[-1][:2]}*.py"):
        path.unlink()
    monkeypatch.setattr(sql_ledger_migrations, "MIGRATIONS", copy)


def test_a_schema_one_release_ahead_is_used_and_left_as_it_is(empty, request):
    upgrade_schema(empty)
    request.getfixturevalue("as_former_release")
    assert schema_state(empty) == (HEADS[-1], HEADS[-2])
    upgrade_schema(empty)
    with closing(open_real(empty, 1000)) as ledger:
        reserve(ledger)
        assert broken(ledger) == []
    assert schema_state(empty) == (HEADS[-1], HEADS[-2])


@pytest.mark.parametrize("beyond", [2, 3, 50])
def test_a_schema_further_ahead_is_refused_and_left_as_it_is(empty, beyond):
    upgrade_schema(empty)
    further = f"{int(HEADS[-1][:2]) + beyond:02d}01"
    database = LedgerDatabase(empty)
    with closing(database):
        statement = text(f"UPDATE {VERSION_TABLE} SET version_num = '{further}'")
        database.write(lambda connection: connection.execute(statement))
    for call in (lambda: open_real(empty, 10), lambda: upgrade_schema(empty)):
        with pytest.raises(LedgerSchemaError, match="more than one release ahead"):
            call()
    assert schema_state(empty) == (further, HEADS[-1])


def test_a_name_that_no_release_has_is_refused(empty):
    upgrade_schema(empty)
    database = LedgerDatabase(empty)
    with closing(database):
        statement = text(f"UPDATE {VERSION_TABLE} SET version_num = 'none'")
        database.write(lambda connection: connection.execute(statement))
    with pytest.raises(LedgerSchemaError):
        open_real(empty, 10)
