"""Following a batch while the bucket comes and goes."""

import json
import re
from datetime import timedelta

import pytest

from assetgen_pipeline.cli import watching
from assetgen_pipeline.cli.watching import StatusFollower, watch_batch
from assetgen_pipeline.domain.bucket_layout import BatchFolder, batch_id_for
from assetgen_pipeline.domain.errors import BatchNotFound, StorageUnavailable
from assetgen_pipeline.domain.progress import BatchProgress
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_status import write_status
from assetgen_pipeline.stages.waiting_batches import wait_for
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.wiring.clock import open_clock
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET


class Moving(InMemoryObjectStore):
    """A bucket whose batch goes one state further with every look."""

    def __init__(self, *states):
        super().__init__(BUCKET)
        self.states = list(states)
        self.counts = None
        self.images = {}
        self.ending = {}

    def read(self, name, **options):
        if name == BatchFolder(BATCH_ID).status and self.states:
            state = self.states.pop(0)
            if state is not None:
                if self.counts is not None:
                    done = next(self.counts)
                    images = {"requested": 9, "delivered": done, "not_attempted": 9 - done}
                    self.images = {"images": images}
                data = {
                    **self.images,
                    **(self.ending if state == "failed" else {}),
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


def test_a_batch_that_waits_for_a_slot_is_said_to(capsys):
    store = Moving("reserved", "reserved", "running", "completed")
    progress = BatchProgress(
        stage="images", waits_for="a slot of the pool generation: 2 of 2 taken"
    )
    name = BatchFolder(BATCH_ID).artifact("progress")
    store.write(name, progress.model_dump_json().encode(), content_type="application/json")

    watch_batch(BATCH_ID, store=store, as_json=False)

    first = capsys.readouterr().err.splitlines()[0]
    assert first.endswith("waits for a slot of the pool generation: 2 of 2 taken")


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


def test_what_was_done_while_the_bucket_was_away_is_counted_once(capsys):
    store = Moving("running", "running", "completed")
    store.fail_next("read", times=2)
    store.counts = iter([3, 9, 9])

    watch_batch(BATCH_ID, store=store, as_json=False)

    printed = capsys.readouterr()
    counts = re.findall(r"(\d+)/9 images", printed.err + printed.out)
    assert counts == sorted(counts, key=int)
    assert counts[-1] == "9"


def test_the_connection_is_made_anew_before_every_look_while_the_bucket_is_away():
    store = Moving("running", "completed")
    store.fail_next("read", times=3)
    reconnected = []

    watch_batch(BATCH_ID, store=store, as_json=True, reconnect=lambda: reconnected.append("again"))

    assert reconnected == ["again"] * 3


def test_a_reconnection_that_fails_is_tried_again():
    store = Moving("running", "completed")
    store.fail_next("read")
    failures = [StorageUnavailable("still away")] * 2

    def reconnect():
        if failures:
            raise failures.pop()

    assert watch_batch(BATCH_ID, store=store, as_json=True, reconnect=reconnect) == 0
    assert failures == []


def test_a_batch_that_stands_nowhere_is_not_waited_for_for_ever():
    with pytest.raises(BatchNotFound):
        watch_batch(BATCH_ID, store=InMemoryObjectStore(BUCKET), as_json=True)


def test_a_batch_in_the_inbox_is_waited_for():
    store = InMemoryObjectStore(BUCKET)
    info = store.write("inbox/studio/spring.csv", b"x", content_type="text/csv")
    batch_id = batch_id_for(
        owner="studio", stem="spring", bucket=BUCKET, name=info.name, generation=info.generation
    )
    follower = StatusFollower(batch_id, store=store)

    assert [follower.look() for _ in range(50)] == [None] * 50
    assert follower.seen_in_inbox


@pytest.mark.parametrize(
    ("code", "because"),
    [
        ("internal", "its process died"),
        ("storage-unavailable", "the bucket was away"),
        ("ledger-unavailable", "the ledger was away"),
    ],
)
def test_a_batch_that_failed_by_no_fault_of_its_own_is_watched_on_while_a_daemon_takes_it_up(
    capsys, code, because
):
    store = Moving("running", "failed", "failed", "validating", "completed")
    store.ending = {"problem": {"code": code, "resumes": True}}
    wait_for("run", BATCH_ID, store=store, clock=open_clock())

    assert watch_batch(BATCH_ID, store=store, as_json=False) == 0
    assert because in capsys.readouterr().err


def died(at):
    """What the status says of a batch whose process died and that a daemon takes up again."""
    return {"finished_at": at.isoformat(), "problem": {"code": "internal", "resumes": True}}


def test_a_batch_whose_process_died_is_watched_on_before_it_stands_on_the_list():
    store = Moving("running", *["failed"] * 5, "validating", "completed")
    store.ending = died(open_clock().now())

    assert watch_batch(BATCH_ID, store=store, as_json=True) == 0


def test_a_batch_that_nobody_puts_on_the_list_has_failed():
    store = Moving("running", "failed")
    store.ending = died(open_clock().now() - timedelta(hours=1))

    assert watch_batch(BATCH_ID, store=store, as_json=True) == 1


def test_a_batch_that_failed_by_itself_has_ended_at_once():
    store = Moving("running", "failed")
    store.ending = {"problem": {"code": "provider-auth"}}
    follower = StatusFollower(BATCH_ID, store=store)
    follower.look()

    assert follower.has_ended(follower.look())


def test_a_batch_that_nobody_takes_up_has_failed():
    store = Moving("running", "failed")
    long_ago = ManualClock(open_clock().now() - timedelta(hours=1))
    wait_for("run", BATCH_ID, store=store, clock=long_ago)

    assert watch_batch(BATCH_ID, store=store, as_json=True) == 1


def test_a_batch_that_waits_for_approval_is_not_watched_further(capsys):
    store = Moving("validating", "awaiting_approval")

    assert watch_batch(BATCH_ID, store=store, as_json=False) == 3
    assert f"assetgen approve {BATCH_ID}" in capsys.readouterr().out


def test_the_bucket_going_away_at_the_last_look_does_not_end_the_watch():
    store = Moving("failed", "failed")
    follower = StatusFollower(BATCH_ID, store=store)
    snapshot = follower.look()
    store.fail_next("read")

    while_away = watching._ended(follower, snapshot)
    after = watching._ended(follower, follower.look())

    assert (while_away, after) == (False, True)


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
