"""Following a batch while the bucket comes and goes."""

import json

import pytest

from assetgen_pipeline.cli import watching
from assetgen_pipeline.cli.watching import StatusFollower, watch_batch
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_status import write_status
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET


class Moving(InMemoryObjectStore):
    """A bucket whose batch goes one state further with every look."""

    def __init__(self, *states):
        super().__init__(BUCKET)
        self.states = list(states)

    def read(self, name, **options):
        if name == BatchFolder(BATCH_ID).status and self.states:
            state = self.states.pop(0)
            if state is not None:
                data = {
                    "batch_id": BATCH_ID,
                    "owner": "studio",
                    "state": state,
                    "mode": "normal",
                    "updated_at": "2026-01-01T00:00:00+00:00",
                    "outbox": "gs://b/o",
                }
                self.write(name, json.dumps(data).encode(), content_type="application/json")
        return super().read(name, **options)


@pytest.fixture(autouse=True)
def short_polls(monkeypatch):
    monkeypatch.setattr(watching, "_POLL_S", 0.001)


def test_a_batch_is_followed_through_its_states_to_its_end(capsys):
    store = Moving(None, "received", "reserved", "running", "running", "completed")

    assert watch_batch(BATCH_ID, store=store, as_json=False) == 0

    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.err.splitlines()] == [
        "received",
        "reserved",
        "running",
    ]
    assert printed.out.startswith("completed")


def test_as_json_only_the_last_document_is_printed(capsys):
    store = Moving("received", "running", "completed_with_failures")

    assert watch_batch(BATCH_ID, store=store, as_json=True) == 4

    printed = capsys.readouterr()
    assert json.loads(printed.out)["state"] == "completed_with_failures"
    assert printed.err == ""


def test_a_bucket_that_goes_away_is_said_once_and_waited_for(capsys):
    store = Moving("running", "running", "running", "running", "completed")
    store.fail_next("read", times=3)

    assert watch_batch(BATCH_ID, store=store, as_json=False) == 0

    lines = capsys.readouterr().err.splitlines()
    assert lines.count("bucket unreachable; trying again") == 1
    assert lines.count("bucket is back") == 1


def test_the_wait_grows_while_the_bucket_is_away_and_is_bounded(monkeypatch):
    monkeypatch.setattr(watching, "_POLL_S", 1.0)
    store = InMemoryObjectStore(BUCKET)
    write_status(BATCH_ID, BatchState.RUNNING, store=store, clock=ManualClock())
    follower = StatusFollower(BATCH_ID, store=store)
    store.fail_next("read", times=50)

    waits = []
    for _ in range(50):
        assert follower.read() is None
        waits.append(follower.wait_s())

    assert 1.0 <= waits[0] <= 2.0
    assert waits[3] > waits[0]
    assert all(15.0 <= wait <= 30.0 for wait in waits[5:])
    assert follower.read() is not None
    assert follower.wait_s() == 1.0
