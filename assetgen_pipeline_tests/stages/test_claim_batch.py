"""Claiming a batch: one run gets it, its file leaves the inbox, another's file never."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from assetgen_pipeline.domain.batch_file import CsvLimits
from assetgen_pipeline.domain.bucket_layout import parse_drop
from assetgen_pipeline.domain.errors import (
    BatchNotFound,
    BatchRejected,
    ClaimLost,
    StorageUnavailable,
)
from assetgen_pipeline.stages.parse_batch import InboxObject, own_drop
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, NOW, OWNER
from assetgen_pipeline_tests.claim_desk import DATA, FOLDER, INBOX, Desk
from assetgen_pipeline_tests.processes import DEADLINE_S


def test_a_claim_moves_the_file_out_of_the_inbox_byte_for_byte():
    desk = Desk(data=b"\xef\xbb\xbf" + DATA)

    claimed = desk.claim("run-1")

    assert desk.store.read(FOLDER.request) == b"\xef\xbb\xbf" + DATA
    assert desk.store.stat(INBOX) is None
    assert dict(claimed.metadata) == {
        "claimed_by": "run-1",
        "mode": "normal",
        "received_at": NOW.isoformat(),
    }


def test_the_upload_is_create_only_and_comes_before_the_delete():
    desk = Desk()

    desk.claim("run-1")

    verbs = [verb for verb, _ in desk.store.calls if verb in {"create", "write", "delete"}]
    assert verbs == ["write", "create", "delete"]


def test_claiming_again_in_the_same_run_changes_nothing():
    desk = Desk()
    first = desk.claim("run-1")

    again = desk.claim("run-1")

    assert again == first


def test_a_crash_before_the_delete_leaves_a_claim_that_the_same_run_finishes():
    desk = Desk()
    desk.store.fail_next("delete")
    with pytest.raises(StorageUnavailable):
        desk.claim("run-1")

    desk.claim("run-1")

    assert desk.store.stat(INBOX) is None


def test_a_dead_runs_claim_is_taken_over_with_its_mode_and_time():
    desk = Desk(dry_run=True)
    before = desk.claim("run-1")

    after = desk.claim("run-2", inbox=None)

    assert after.generation != before.generation
    assert dict(after.metadata) == {**before.metadata, "claimed_by": "run-2"}
    assert desk.store.read(FOLDER.request) == DATA


def test_a_claim_without_a_name_is_taken_over_whatever_runs_live():
    desk = Desk()
    desk.store.create(FOLDER.request, DATA, content_type="text/csv")
    desk.live.add("")

    claimed = desk.claim("run-2")

    assert claimed.metadata["claimed_by"] == "run-2"


def test_a_live_runs_claim_stays_and_the_inbox_is_left_alone():
    desk = Desk()
    before = desk.claim("run-1")
    desk.inbox = desk.drop(DATA)
    desk.live.add("run-1")

    with pytest.raises(ClaimLost, match="run-1"):
        desk.claim("run-2")

    assert desk.store.stat(FOLDER.request) == before
    assert desk.store.stat(INBOX) is not None


def test_a_takeover_loses_to_another_that_was_faster():
    desk = Desk()
    desk.claim("run-1")

    class Slow(InMemoryObjectStore):
        """Lets run-3 take the batch over between this run's look and its write."""

        def stat(self, name):
            seen = desk.store.stat(name)
            desk.claim("run-3")
            return seen

        def read(self, name, *, generation=None):
            return desk.store.read(name, generation=generation)

    with pytest.raises(ClaimLost, match="took the batch over"):
        desk.claim("run-2", store=Slow(BUCKET))

    assert desk.store.stat(FOLDER.request).metadata["claimed_by"] == "run-3"


def test_a_takeover_loses_where_the_claim_changes_between_its_read_and_its_write():
    class Overtaken(InMemoryObjectStore):
        """Puts run-3's claim in place as soon as the old one was read."""

        def read(self, name, *, generation=None):
            data = super().read(name, generation=generation)
            super().write(name, data, content_type="text/csv", metadata={"claimed_by": "run-3"})
            return data

    desk = Desk()
    desk.store = Overtaken(BUCKET)
    desk.store.create(
        FOLDER.request, DATA, content_type="text/csv", metadata={"claimed_by": "run-1"}
    )

    with pytest.raises(ClaimLost, match="took the batch over"):
        desk.claim("run-2", inbox=None)

    assert desk.store.stat(FOLDER.request).metadata["claimed_by"] == "run-3"


@pytest.mark.parametrize("claimed_before", [False, True], ids=["fresh", "takeover"])
@pytest.mark.parametrize("turn", range(10))
def test_of_two_racing_runs_exactly_one_gets_the_batch(claimed_before, turn):
    desk = Desk()
    if claimed_before:
        desk.claim("run-dead")
    desk.live |= {"run-a", "run-b"}
    start = threading.Barrier(2)

    def race(run_id):
        start.wait(timeout=DEADLINE_S)
        try:
            return desk.claim(run_id).metadata["claimed_by"]
        except ClaimLost:
            return None

    with ThreadPoolExecutor(2) as pool:
        won = [run for run in pool.map(race, ["run-a", "run-b"]) if run is not None]

    assert won == [desk.store.stat(FOLDER.request).metadata["claimed_by"]]
    assert desk.store.stat(INBOX) is None


def test_the_loser_of_an_upload_race_sees_the_winners_claim():
    desk = Desk()
    desk.live.add("run-1")

    class Slow(InMemoryObjectStore):
        """Sees no claim at first, as a run does that looked before the winner uploaded."""

        def __init__(self):
            super().__init__(BUCKET)
            self.stat_calls = 0

        def stat(self, name):
            self.stat_calls += 1
            if self.stat_calls == 1:
                desk.claim("run-1")
                return None
            return desk.store.stat(name)

        def read(self, name, *, generation=None):
            return desk.store.read(name, generation=generation)

    with pytest.raises(ClaimLost, match="run run-1 works on"):
        desk.claim("run-2", store=Slow())

    assert desk.store.stat(FOLDER.request).metadata["claimed_by"] == "run-1"


def test_a_file_overwritten_after_it_was_claimed_survives_in_the_inbox():
    desk = Desk()

    class Overwritten(InMemoryObjectStore):
        """Somebody drops a new file of the same name right after the claim."""

        def create(self, *args, **kwargs):
            info = super().create(*args, **kwargs)
            super().write(INBOX, b"another file", content_type="text/csv")
            return info

    desk.store = Overwritten(BUCKET)
    desk.inbox = desk.drop(DATA)

    desk.claim("run-1")

    assert desk.store.read(FOLDER.request) == DATA
    assert desk.store.read(INBOX) == b"another file"


def test_a_file_overwritten_before_it_was_claimed_is_not_taken_for_the_one_asked_for():
    desk = Desk()
    desk.drop(b"another file")

    with pytest.raises(BatchNotFound, match="removed or replaced"):
        desk.claim("run-1")

    assert desk.store.stat(FOLDER.request) is None
    assert desk.store.read(INBOX) == b"another file"


def test_a_batch_that_was_neither_claimed_nor_dropped_is_not_found():
    desk = Desk()

    with pytest.raises(BatchNotFound, match=BATCH_ID):
        desk.claim("run-1", inbox=None)


def test_a_file_in_the_inbox_that_is_too_large_is_rejected_unread_and_stays():
    desk = Desk()

    with pytest.raises(BatchRejected) as rejected:
        desk.claim("run-1", limits=CsvLimits(max_bytes=10))

    assert rejected.value.code == "csv-too-large"
    assert desk.reads() == []
    assert desk.store.stat(INBOX) is not None


DROP = {"name": INBOX, "generation": 7, "bucket": BUCKET}


def test_a_drop_is_the_batch_that_its_name_and_generation_make():
    batch_id = parse_drop(INBOX).batch_id(bucket=BUCKET, generation=7)

    drop = own_drop(batch_id, **DROP)

    assert drop == InboxObject(name=INBOX, generation=7, dry_run=False)


@pytest.mark.parametrize(
    "tagged",
    [
        {"name": "inbox/other/spring.csv"},
        {"name": f"inbox/{OWNER}/summer.csv"},
        {"name": f"outbox/{OWNER}/spring.csv"},
        {"name": "inbox/a.txt"},
        {"generation": 8},
        {"bucket": "another"},
    ],
)
def test_no_tag_of_a_run_makes_another_file_its_batch(tagged):
    batch_id = parse_drop(INBOX).batch_id(bucket=BUCKET, generation=7)

    assert own_drop(batch_id, **DROP | tagged) is None
