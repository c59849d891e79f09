"""The hard limits rest on this: a pool holds for ops inside graph assets, across processes."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pytest

ROOT = Path(__file__).parents[2]
DEADLINE_S = 100


@pytest.fixture
def users():
    started = []
    yield started
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_pool_of_one_holds_across_two_processes_for_the_ops_of_a_graph_asset(tmp_path, users):
    home, meet = tmp_path / "home", tmp_path / "meet"
    home.mkdir()
    meet.mkdir()
    (home / "dagster.yaml").write_bytes((ROOT / "dagster.yaml").read_bytes())
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.event_log_storage.set_concurrency_slots("generation", 1)
    files = [tmp_path / f"times{n}" for n in range(2)]
    script = Path(__file__).with_name("pool_user.py")
    for times in files:
        command = [sys.executable, "-W", "ignore", str(script), str(home), str(times), str(meet)]
        users.append(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )

    assert [process.wait(timeout=DEADLINE_S) for process in users] == [0, 0]

    notes = [
        [json.loads(line) for line in times.read_text("utf-8").splitlines()] for times in files
    ]
    runs = [(lines[0]["at"], lines[-1]["at"]) for lines in notes]
    spans = sorted(
        (begin["at"], end["at"])
        for lines in notes
        for begin, end in zip(
            [one for one in lines if one["what"] == "begin"],
            [one for one in lines if one["what"] == "end"],
            strict=True,
        )
    )
    assert len(spans) == 4
    assert max(begin for begin, _end in runs) < min(end for _begin, end in runs)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))
