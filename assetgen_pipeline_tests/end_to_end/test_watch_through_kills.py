"""`watch` and `run` while web server, daemon, worker and bucket are killed and come back."""

import json
import re
import signal
import subprocess

import pytest

from assetgen_pipeline.domain.errors import BatchNotFound, StorageUnavailable
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.services import open_all
from assetgen_pipeline_tests.processes import DEADLINE_S, is_alive, kill, processes_of, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

ROWS = 60
STACK_SETTINGS = {"ASSETGEN_LOCAL_LATENCY_S": "1", "ASSETGEN_GENERATION_CONCURRENCY": "1"}


def of(home, *words):
    """The processes of a HOME whose command has all these words."""
    return [
        pid for pid, command in processes_of(home).items() if all(word in command for word in words)
    ]


def killed(pids):
    assert pids
    kill(pids)
    until(lambda: not any(is_alive(pid) for pid in pids))


def test_watch_outlives_every_process_and_counts_each_image_once(stack, tmp_path):
    settings = load_settings()
    file = stack.file("sixty.csv", ROWS)
    up = stack.start()
    batch_id = stack.answer("submit", file, "--owner", "ada")[1]["batch_id"]
    lines = tmp_path / "watch.txt"
    with lines.open("wb") as plain:
        watching = stack.command("watch", batch_id, stdout=plain, stderr=plain)
    silent = stack.command(
        "watch", batch_id, "--json", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )

    def delivered(count):
        # Opened anew for every look: here, too, the bucket goes away.
        try:
            with open_object_store(settings) as store:
                return read_status(batch_id, store=store).images.delivered >= count
        except (BatchNotFound, StorageUnavailable):
            return False

    until(lambda: delivered(5), every_s=1.0)
    # The bucket's server and whoever would start it again.
    killed(of(stack.home, "fake-gcs-server") + of(stack.home, "local_bucket_supervisor"))
    until(lambda: delivered(10), every_s=1.0)
    # The web server; `up` sees it and ends, with the daemon and the run under it.
    killed(of(stack.home, "dagster-webserver"))
    until(lambda: up.poll() is not None)
    up = stack.start()
    until(lambda: delivered(15), every_s=1.0)
    killed(of(stack.home, "dagster-daemon"))
    until(lambda: up.poll() is not None)
    stack.start()

    assert watching.wait(timeout=1500) == 0
    out, _err = silent.communicate(timeout=600)
    assert silent.returncode == 0
    document = json.loads(out)
    assert (document["state"], document["images"]["delivered"]) == ("completed", ROWS)
    text = lines.read_text(encoding="utf-8")
    counts = [int(found) for found in re.findall(rf"(\d+)/{ROWS} images", text)]
    assert counts == sorted(counts)
    assert counts[-1] == ROWS
    with open_object_store(settings) as store:
        assert read_status(batch_id, store=store).state is BatchState.COMPLETED
        assert len(list(store.list("images/"))) == ROWS


def test_run_starts_its_bucket_again_and_ends_well(stack):
    settings = load_settings()
    file = stack.file("ten.csv", 10)
    running = stack.command(
        "run", file, "--owner", "ada", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )

    def delivered():
        with open_all(settings) as services:
            return services.ledger.day("ada").settled.micros >= 2 * 2_000

    until(delivered, every_s=0.5)
    killed(of(stack.home, "fake-gcs-server") + of(stack.home, "local_bucket_supervisor"))

    out, _err = running.communicate(timeout=900)
    assert (running.returncode, out.split()[0]) == (0, b"completed")


def test_ctrl_c_ends_watching_and_not_the_batch(stack, tmp_path):
    settings = load_settings()
    file = tmp_path / "two.csv"
    file.write_text("scene_id,prompt\nS1,a\nS2,b\n", encoding="utf-8")
    batch_id = stack.answer("submit", file, "--owner", "ada")[1]["batch_id"]
    watching = stack.command("watch", batch_id, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = watching.stderr.readline().decode()
    watching.send_signal(signal.SIGINT)

    watching.communicate(timeout=DEADLINE_S)
    assert said == "in the inbox; a daemon takes it from there\n"
    assert watching.returncode == 130
    with open_object_store(settings) as store:
        assert [found.name for found in store.list("inbox/")] == ["inbox/ada/two.csv"]
