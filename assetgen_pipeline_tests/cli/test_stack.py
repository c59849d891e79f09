"""The stack's place in a HOME: one at a time, and free again however its holder ended."""

import contextlib
import math
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from assetgen_pipeline.cli import stack as stack_module
from assetgen_pipeline.cli.running import Stopped
from assetgen_pipeline.cli.stack import Stack
from assetgen_pipeline.cli.stack_place import StackHeld, sole_stack, stack_age_s
from assetgen_pipeline.wiring.stack_record import stopped_at

HOLDER = (
    "import sys\n"
    "from pathlib import Path\n"
    "from assetgen_pipeline.cli.stack_place import sole_stack\n"
    "with sole_stack(Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.read()\n"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the HOME."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_stack_in_a_home_is_refused_and_told_who_has_it(tmp_path, holder):
    with pytest.raises(StackHeld, match=f"process {holder.pid} ") as refused, sole_stack(tmp_path):
        pass

    assert "ASSETGEN_HOME" in refused.value.fix


def test_up_in_a_held_home_ends_with_1_and_a_fix_before_it_touches_anything(
    assetgen, tmp_path, holder, monkeypatch
):
    monkeypatch.setenv("ASSETGEN_HOME", str(tmp_path))

    answer = assetgen("up")

    assert answer.code == 1
    assert f"error  stack-held: process {holder.pid} runs a stack" in answer.err
    assert "fix    Use that one, stop it first" in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["up.lock"]


def test_a_home_whose_holder_was_killed_is_free(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    with sole_stack(tmp_path):
        assert (tmp_path / "up.lock").read_text(encoding="ascii").isdigit()


def test_a_killed_holder_was_not_stopped_in_order(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    assert stopped_at(tmp_path) is None
    assert math.isfinite(stack_age_s(tmp_path, now=datetime.now(UTC)))


@pytest.mark.parametrize(
    ("end", "in_order"),
    [(None, True), (Stopped(signal.SIGINT), True), (RuntimeError("the daemon ended"), False)],
)
def test_a_stack_that_fails_was_not_stopped_in_order(tmp_path, end, in_order):
    with suppress(RuntimeError, Stopped), sole_stack(tmp_path):
        assert stopped_at(tmp_path) is None
        if end is not None:
            raise end

    assert (stopped_at(tmp_path) is not None) is in_order
    assert math.isinf(stack_age_s(tmp_path, now=datetime.now(UTC))) is in_order


def test_where_no_stack_ever_was_none_was_stopped(tmp_path):
    assert stopped_at(tmp_path) is None
    assert math.isinf(stack_age_s(tmp_path, now=datetime.now(UTC)))


def test_a_home_is_free_again_after_a_stack(tmp_path):
    with sole_stack(tmp_path):
        pass

    with sole_stack(tmp_path):
        pass


class Pretended(Stack):
    """A stack whose daemon ends in the way given, and which starts nothing else."""

    def __init__(self, logs, script):
        self.logs, self.url, self.graph_url = logs, "", ""
        daemon = subprocess.Popen([sys.executable, "-c", script])
        daemon.wait()
        self._processes = {"dagster-daemon": daemon}

    def ready(self):
        pass


@pytest.mark.parametrize(
    ("script", "how"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 15)", "killed by SIGTERM"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL, perhaps for want of memory"),
    ],
)
def test_up_ends_with_1_and_says_what_ended_before_it_stops_the_rest(
    assetgen, tmp_path, monkeypatch, script, how
):
    said = []

    @contextlib.contextmanager
    def pretended(_settings, *, port):
        try:
            yield Pretended(tmp_path / "logs", script)
        finally:
            said.append(sys.stderr.getvalue())

    monkeypatch.setenv("ASSETGEN_HOME", str(tmp_path))
    monkeypatch.setattr(stack_module, "running_stack", pretended)

    answer = assetgen("up")

    assert answer.code == 1
    assert f"dagster-daemon ended ({how}); see" in said[0]
    assert "error  stack-failed: dagster-daemon ended" in answer.err
    assert "fix    Start it again" in answer.err
