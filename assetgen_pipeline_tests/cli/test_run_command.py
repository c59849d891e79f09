"""`assetgen run` and `retry` as people start them: whole processes with a HOME of their own."""

import csv
import io
import json
import signal
import socket
from importlib import resources

import pytest

from assetgen_pipeline.defs import control
from assetgen_pipeline.domain.bucket_layout import OUTBOX, BatchFolder
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.status import BatchStatus
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline_tests.builders import a_csv
from assetgen_pipeline_tests.command_home import Home
from assetgen_pipeline_tests.processes import DEADLINE_S, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SAMPLES = resources.files("assetgen_pipeline") / "data" / "samples"


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path / "home")
    yield made
    made.stop()


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
    assert home.run("results", refused["batch_id"], "-o", tmp_path / "out", **poor)[0] == 0
    assert not (tmp_path / "out" / "problem.json").exists()


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"ASSETGEN_MODEL": "foo"}, "price-unknown"),
        ({"ASSETGEN_LEDGER_URL": "postgresql+psycopg://nobody@127.0.0.1:1/x"}, "ledger-unavailable"),
    ],
    ids=["model", "ledger"],
)  # fmt: skip
def test_a_batch_that_ends_before_it_is_read_has_every_row_in_its_results(
    home, tmp_path, settings, code
):
    file = tmp_path / "two.csv"
    file.write_bytes(a_csv(["S1", "a kitchen"], ["S2", "a harbour"]))

    ended, document, _err = home.run("run", file, "--owner", "ada", **settings)

    assert (ended, document["state"], document["problem"]["code"]) == (1, "failed", code)
    assert document["finished_at"]
    with home.bucket() as store:
        rows = rows_of(store, document["batch_id"])
        failed = store.read(BatchFolder(document["batch_id"]).failed)
    assert [(row["scene_id"], row["status"], row["error_code"]) for row in rows] == [
        ("S1", "not_attempted", code),
        ("S2", "not_attempted", code),
    ]
    assert len(failed.splitlines()) == 3


def test_the_end_is_said_once_and_last_which_rows_went_on_without_references(home, tmp_path):
    file = tmp_path / "one.csv"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/a.png"
        file.write_bytes(
            a_csv(["S1", "a kitchen", url], header=["scene_id", "prompt", "reference_urls"])
        )
        settings = {
            "ASSETGEN_REFERENCE_ALLOWED_NETWORKS": "127.0.0.0/8",
            "ASSETGEN_REFERENCE_RETRIES": "0",
            "ASSETGEN_REFERENCE_TIMEOUT_S": "300",
        }
        process = home.start("run", file, "--owner", "ada", **settings)
        out, err = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 0, err.decode()
    *_, last = out.decode().splitlines()
    assert last == "  1 row without some references: see results.csv"
    assert (out + err).decode().count("completed ") == 1
    batch_id = out.split()[1].decode()
    with home.bucket() as store:
        [row] = rows_of(store, batch_id)
    assert row["references_unfetched"].startswith("reference 1, http://127.0.0.1/…#")
    assert row["references_unfetched"].endswith(
        ": reference-unavailable: the host refuses the connection"
    )


def test_ctrl_c_in_the_middle_leaves_results_and_no_process_and_retry_pays_only_the_rest(
    home, tmp_path
):
    file = tmp_path / "many.csv"
    # So many that the signal comes in the middle on any machine.
    scenes = [f"S{n:02}" for n in range(1, 61)]
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
        assert statuses.count("delivered") < len(scenes)
    first, holds, broken = home.attempts(batch_id)
    assert (holds, broken) == ([], [])
    # Calls in flight were let finish: nothing is left whose bill nobody knows.
    assert {attempt.state for attempt in first} == {AttemptState.CAPTURED}
    with control.open_instance(load_settings(home=home.path)) as instance:
        assert [run.status.value for run in instance.get_runs()] == ["CANCELED"]
    until(lambda: not home.processes())

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
    until(lambda: not home.processes())
