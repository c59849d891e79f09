"""`watch` as a process, while the real local bucket is killed and comes back on its port."""

import json
import re
import subprocess

import pytest

from assetgen_pipeline.adapters.local_bucket_supervisor import kept_port
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.batch_status import write_status
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.clock import open_clock
from assetgen_pipeline_tests.processes import DEADLINE_S, is_alive, kill, processes_of, until

pytestmark = pytest.mark.timeout(1800)
BATCH = "ada.watched.0000000a"


def tell(state, delivered=0):
    """Write the status as a run does, however often the bucket is away meanwhile."""

    def told():
        try:
            with open_object_store(load_settings(), retry_for_s=1.0) as store:
                images = {
                    "requested": 9,
                    "delivered": delivered,
                    "not_attempted": 9 - delivered,
                }
                write_status(BATCH, state, store=store, clock=open_clock(), images=images)
        except StorageUnavailable:
            return False
        return True

    until(told)


def kill_bucket(home):
    """Kill the bucket's server, and who would start it again."""
    pids = [
        pid
        for pid, command in processes_of(home).items()
        if "fake-gcs-server" in command or "local_bucket_supervisor" in command
    ]
    assert len(pids) == 2
    kill(pids)
    until(lambda: not any(is_alive(pid) for pid in pids))


def test_the_bucket_is_killed_and_comes_back_and_no_image_is_lost_or_counted_twice(stack, tmp_path):
    tell(BatchState.RUNNING, 1)
    said = tmp_path / "watch.txt"
    with said.open("wb") as output:
        watching = stack.command("watch", BATCH, stdout=subprocess.PIPE, stderr=output)
    until(lambda: "1/9 images" in said.read_text(encoding="utf-8"))
    port = kept_port(stack.home)

    kill_bucket(stack.home)
    until(lambda: "bucket unreachable" in said.read_text(encoding="utf-8"))
    until(lambda: "bucket is back" in said.read_text(encoding="utf-8"))
    for delivered in (4, 7):
        tell(BatchState.RUNNING, delivered)
        look = f"{delivered}/9 images"
        until(lambda look=look: look in said.read_text(encoding="utf-8"))
    tell(BatchState.COMPLETED, 9)

    out, _err = watching.communicate(timeout=DEADLINE_S)
    assert watching.returncode == 0
    assert kept_port(stack.home) == port
    counts = re.findall(r"(\d)/9 images", said.read_text(encoding="utf-8") + out.decode())
    assert counts == ["1", "4", "7", "9"]


def test_watch_that_begins_while_the_emulator_is_away_waits_for_it(stack, monkeypatch):
    """A second emulator, at an address where nobody listens before the batch has ended."""
    tell(BatchState.COMPLETED, 9)
    port = kept_port(stack.home)
    stack.variables = {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}
    kill_bucket(stack.home)
    watching = stack.command(
        "watch", BATCH, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    first = watching.stderr.readline().decode()
    tell(BatchState.COMPLETED, 9)

    out, _err = watching.communicate(timeout=DEADLINE_S)

    assert first == "bucket unreachable; trying again\n"
    assert watching.returncode == 0
    assert json.loads(out)["images"]["delivered"] == 9
