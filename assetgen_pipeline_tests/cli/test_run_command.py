"""`assetgen run` and `retry` as people start them: whole processes with a HOME of their own."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from assetgen_pipeline.adapters.gcs_object_store import GcsObjectStore, emulator_client
from assetgen_pipeline.adapters.local_bucket import hold_local_bucket
from assetgen_pipeline.adapters.sql_ledger import open_sql_ledger
from assetgen_pipeline.adapters.system_clock import SystemClock
from assetgen_pipeline.domain.bucket_layout import OUTBOX, BatchFolder
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.status import BatchStatus
from assetgen_pipeline.settings import environment_for_children, load_settings
from assetgen_pipeline_tests.builders import a_csv

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SAMPLES = resources.files("assetgen_pipeline") / "data" / "samples"
DEADLINE_S = 600


class Home:
    """One HOME, and the command started in it."""

    def __init__(self, path):
        self.path = path
        self.started = []

    def start(self, *words, **settings):
        process = subprocess.Popen(
            [sys.executable, "-m", "assetgen_pipeline", *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment_for_children(load_settings(home=self.path)), **settings},
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, *words, **settings):
        """The command's exit code and the JSON document on its stdout."""
        process = self.start(*words, "--json", **settings)
        out, err = process.communicate(timeout=DEADLINE_S)
        return process.returncode, json.loads(out), err.decode()

    @contextmanager
    def bucket(self):
        """The bucket, let go of at the end so that it stops with its last user."""
        with hold_local_bucket(self.path) as endpoint:
            client = emulator_client(endpoint)
            try:
                store = GcsObjectStore(client, bucket="assetgen-local")
                store.ensure_bucket()
                yield store
            finally:
                client.close()

    def attempts(self, batch_id):
        ledger = open_sql_ledger(
            f"sqlite:///{self.path / 'ledger.db'}",
            clock=SystemClock(),
            time_zone=ZoneInfo("UTC"),
            default_limit=Money(0),
            project_limit=None,
        )
        try:
            broken = [check.name for check in ledger.verify() if check.violations]
            return ledger.attempts(batch_id), ledger.open_holds(), broken
        finally:
            ledger.close()

    def processes(self):
        """The command lines of all processes that belong to this HOME."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if str(self.path).encode() in text:
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path / "home")
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(look, *, deadline_s=DEADLINE_S):
    """What `look` gives as soon as it gives something."""
    pause, deadline = threading.Event(), time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        pause.wait(0.1)
    raise AssertionError("it did not come in time")


def rows_of(store, batch_id):
    text = store.read(BatchFolder(batch_id).results).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_the_storyboard_is_delivered_whole(home):
    code, document, _err = home.run("run", SAMPLES / "storyboard.csv", "--owner", "ada")

    assert code == 0
    assert document["state"] == "completed"
    assert document["images"]["delivered"] == document["images"]["requested"] == 16
    assert document["spent_usd"] == "0.032000"
    batch_id = document["batch_id"]
    attempts, holds, broken = home.attempts(batch_id)
    assert len(attempts) == 16
    assert (holds, broken) == ([], [])
    with home.bucket() as store:
        rows = rows_of(store, batch_id)
        assert [row["status"] for row in rows] == ["delivered"] * 12
        assert rows[0]["director_note"] == "Opening title"
        assert store.read(BatchFolder(batch_id).contact_sheet).count(b"data:image/") == 16


def test_an_invalid_file_ends_with_2_and_every_problem(home):
    code, document, _err = home.run("run", SAMPLES / "invalid.csv", "--owner", "ada")

    assert code == 2
    assert document["state"] == "rejected"
    assert {e["line"] for e in document["problem"]["errors"]} == {3, 4, 5, 6, 7, 8, 9}
    assert home.attempts(document["batch_id"]) == ([], [], [])


def test_a_refused_batch_ends_with_3_and_goes_through_once_its_budget_is_raised(home, tmp_path):
    file = tmp_path / "two.csv"
    file.write_bytes(a_csv(["S1", "a kitchen"], ["S2", "a harbour"]))
    poor = {"ASSETGEN_DAILY_LIMIT_USD": "0.001"}

    code, refused, _err = home.run("run", file, "--owner", "ada", **poor)

    assert (code, refused["state"]) == (3, "refused")
    assert refused["problem"]["type"] == "urn:assetgen:problem:budget-exceeded"
    assert refused["images"] == {
        "requested": 2, "delivered": 0, "failed": 0, "blocked": 0, "not_attempted": 2,
    }  # fmt: skip
    assert home.run("budget", "set", "ada", "--daily-usd", "1", **poor)[0] == 0
    code, done, _err = home.run("retry", refused["batch_id"], **poor)
    assert (code, done["state"]) == (0, "completed")
    assert done["problem"] is None
    assert done["spent_usd"] == "0.004000"


def test_ctrl_c_in_the_middle_leaves_results_and_no_process_and_retry_pays_only_the_rest(
    home, tmp_path
):
    file = tmp_path / "four.csv"
    scenes = [f"S{n}" for n in range(1, 5)]
    file.write_bytes(a_csv(*[[scene, f"scene {scene}"] for scene in scenes]))
    slow = {"ASSETGEN_LOCAL_LATENCY_S": "2", "ASSETGEN_GENERATION_CONCURRENCY": "1"}
    with home.bucket() as store:
        process = home.start("run", file, "--owner", "ada", "--json", **slow)

        def running():
            assert process.poll() is None, process.communicate()
            for found in list(store.list(OUTBOX)):
                if found.name.endswith("/status.json"):
                    status = BatchStatus.model_validate_json(store.read(found.name))
                    if status.state == "running" and status.images.delivered:
                        return status
            return None

        batch_id = until(running).batch_id
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE_S)

        assert process.returncode == 130, err.decode()
        document = json.loads(out)
        assert document["state"] == "cancelled"
        assert document["problem"]["type"] == "urn:assetgen:problem:cancelled"
        assert [row["scene_id"] for row in rows_of(store, batch_id)] == scenes
        statuses = [row["status"] for row in rows_of(store, batch_id)]
        assert "delivered" in statuses
        assert statuses.count("delivered") < 4
    first, holds, broken = home.attempts(batch_id)
    assert (holds, broken) == ([], [])
    until(lambda: not home.processes(), deadline_s=30)

    code, done, _err = home.run("retry", batch_id)

    assert (code, done["state"]) == (0, "completed")
    attempts, holds, broken = home.attempts(batch_id)
    assert (holds, broken) == ([], [])
    with_image = [a for a in attempts if a.image is not None and a.cost_basis != "reused"]
    assert sorted(a.scene_id for a in with_image) == scenes
    assert {a.state for a in with_image} == {AttemptState.CAPTURED}
    assert {a.attempt_id for a in first if a.image is not None} <= {
        a.attempt_id for a in with_image
    }
    until(lambda: not home.processes(), deadline_s=30)
