"""The limits across runs rest on this: a pool holds for ops inside graph assets, across processes.

What this does not show: on SQLite, Dagster picks a free slot and takes it in two statements,
so two processes that ask within the same milliseconds can both get the last slot. Reference
fetches therefore also hold a lock of their own (`adapters/test_fetch_slots.py`).
"""

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

ROOT = Path(__file__).parents[2]
DEADLINE_S = 600


@pytest.fixture
def users():
    started = []
    yield started
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_op_of_a_graph_asset_waits_for_the_slot_that_another_process_holds(tmp_path, users):
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_bytes((ROOT / "dagster.yaml").read_bytes())
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.event_log_storage.set_concurrency_slots("generation", 1)
    first, second = tmp_path / "first", tmp_path / "second"
    script = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("pool_user.py"))]
    for files in ([first], [second, first]):
        users.append(
            subprocess.Popen(
                [*script, str(home), *map(str, files)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

    assert [process.wait(timeout=DEADLINE_S) for process in users] == [0, 0]

    holder, waiter = (
        {
            note["what"]: note["at"]
            for note in map(json.loads, times.read_text("utf-8").splitlines())
        }
        for times in (first, second)
    )
    assert holder.keys() == waiter.keys() == {"begin", "end"}
    assert holder["end"] <= waiter["begin"]
