"""Children that end late or not at all, and what they started."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from assetgen_pipeline.cli.process_groups import end_groups
from assetgen_pipeline_tests.processes import is_alive, until

OBEYS = "import signal, sys"
DEAF = f"{OBEYS}; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
# Works on after TERM until its leader is gone, then leaves a file behind.
FINISHES = (
    f"{OBEYS}; signal.signal(signal.SIGTERM,"
    " lambda *_: sys.exit(sys.stdin.read() or open(sys.argv[1], 'w').close()))"
)
WAITS = "print('there', flush=True); signal.pause()"
LEADER = """
import subprocess, sys
{itself}
child = subprocess.Popen(
    [sys.executable, "-c", {child!r}, sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture
def start(tmp_path):
    """Start a leader whose child is ready too; the leader and the child's id."""
    started = []

    def leader_and_child(*, itself=OBEYS, child=OBEYS):
        code = LEADER.format(itself=itself, child=f"{child}; {WAITS}")
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "finished")],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        return process, int(process.stdout.readline())

    yield leader_and_child
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def test_what_ends_by_itself_is_not_killed(start):
    leader, child = start()

    end_groups([leader], within_s=600)

    assert leader.returncode == -signal.SIGTERM
    assert not is_alive(child)


def test_a_child_that_outlives_its_leader_finishes_what_it_does(start, tmp_path):
    leader, child = start(child=FINISHES)

    end_groups([leader], within_s=600)

    assert not is_alive(child)
    assert (tmp_path / "finished").exists()


def test_whatever_is_deaf_is_killed_in_the_end(start):
    leader, child = start(itself=DEAF, child=DEAF)

    end_groups([leader], within_s=0.2)

    assert leader.returncode == -signal.SIGKILL
    until(lambda: not is_alive(child))


def test_a_second_signal_kills_at_once(start):
    leader, child = start(child=DEAF)

    def second_signal():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        end_groups([leader], within_s=1e9, say=second_signal)

    assert leader.poll() is not None
    until(lambda: not is_alive(child))


def test_groups_that_have_ended_before_are_no_error(start):
    leader, _child = start()
    end_groups([leader], within_s=600)

    end_groups([leader], within_s=600)

    assert leader.returncode == -signal.SIGTERM
