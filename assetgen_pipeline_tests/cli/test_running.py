"""What `assetgen run` says while its child works."""

import os
import signal
import subprocess
import sys

import pytest

from assetgen_pipeline.cli import batches, running, watching
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.status import BatchState, exit_code
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.batch_status import write_status
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET


class Child:
    """A process that takes its batch through these states, one with every wait, and ends."""

    def __init__(self, store, *states):
        self.store, self.states = store, list(states)

    def wait(self, timeout):
        if self.states:
            write_status(BATCH_ID, self.states.pop(0), store=self.store, clock=ManualClock())
            raise subprocess.TimeoutExpired("child", timeout)
        return 0


class ImpatientlyWaited(subprocess.Popen):
    """A process whose end nobody waits for calmly: a signal comes meanwhile."""

    def wait(self, timeout=None):
        if timeout is not None:
            raise running.Stopped(signal.SIGINT)
        return super().wait()


@pytest.fixture(autouse=True)
def short_polls(monkeypatch):
    monkeypatch.setattr(watching, "_POLL_S", 0.001)


@pytest.mark.parametrize("end", [state for state in BatchState if exit_code(state) is not None])
def test_how_a_batch_ends_is_left_to_the_last_line(capsys, end):
    store = InMemoryObjectStore(BUCKET)
    child = Child(store, BatchState.RECEIVED, BatchState.RUNNING, end, end)

    running._follow(child, BATCH_ID, settings=load_settings(), store=store, as_json=False)

    shown = [line.split()[0] for line in capsys.readouterr().err.splitlines()]
    assert shown == ["received", "running"]


def test_a_bucket_that_goes_away_after_the_end_hides_the_note_and_changes_nothing_else(capsys):
    store = InMemoryObjectStore(BUCKET)
    store.write(BatchFolder(BATCH_ID).manifest, b"{}", content_type="application/json")
    store.fail_next("read")

    batches.note_unfetched(BATCH_ID, store=store)

    assert capsys.readouterr().err.startswith("left out  the rows without references: ")


def test_a_signal_while_a_child_is_ended_leaves_none_behind():
    deaf = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        " print('there', flush=True); signal.pause()"
    )
    child = ImpatientlyWaited([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    try:
        child.stdout.readline()

        with pytest.raises(running.Stopped):
            running.end_process(child)

        assert child.poll() == -signal.SIGKILL
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_whoever_handles_it(number):
    former = signal.signal(number, lambda *_: None)
    try:
        with running.noted_signals() as noted:
            before = noted()
            os.kill(os.getpid(), number)

            assert (before, noted()) == (0, number)
    finally:
        signal.signal(number, former)
