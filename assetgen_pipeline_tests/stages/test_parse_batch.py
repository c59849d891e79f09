"""Reading a claimed file."""

import pytest

from assetgen_pipeline.domain.batch_file import CsvLimits
from assetgen_pipeline.domain.errors import BatchRejected, ObjectMissing
from assetgen_pipeline_tests.builders import BATCH_ID, NOW, OWNER, a_csv
from assetgen_pipeline_tests.claim_desk import DATA, FOLDER, Desk


@pytest.mark.parametrize(("dry_run", "mode"), [(False, "normal"), (True, "dry_run")])
def test_a_claimed_file_becomes_one_request_per_row(dry_run, mode):
    desk = Desk(dry_run=dry_run)
    claimed = desk.claim("run-1")

    batch = desk.parse(claimed)

    assert (batch.batch_id, batch.owner, batch.mode) == (BATCH_ID, OWNER, mode)
    assert [request.scene_id for request in batch.requests] == ["S1", "S2"]
    assert batch.header == ("scene_id", "prompt")
    assert batch.received_at == NOW.isoformat()


def test_a_file_put_there_without_metadata_counts_as_received_when_it_was_uploaded():
    desk = Desk()
    claimed = desk.store.create(FOLDER.request, DATA, content_type="text/csv")

    batch = desk.parse(claimed)

    assert (batch.mode, batch.received_at) == ("normal", NOW.isoformat())


def test_an_invalid_file_is_rejected_with_all_its_problems():
    desk = Desk(data=a_csv(["S1", ""], ["S1", "a garden"]))
    claimed = desk.claim("run-1")

    with pytest.raises(BatchRejected) as rejected:
        desk.parse(claimed)

    assert [problem.line for problem in rejected.value.problems] == [2, 3]


def test_a_claimed_file_that_is_too_large_is_rejected_unread():
    desk = Desk()
    claimed = desk.store.create(FOLDER.request, DATA, content_type="text/csv")

    with pytest.raises(BatchRejected):
        desk.claim("run-2", limits=CsvLimits(max_bytes=10))
    with pytest.raises(BatchRejected):
        desk.parse(claimed, max_bytes=10)

    assert desk.reads() == []


def test_the_limits_of_the_deployment_hold():
    desk = Desk()
    claimed = desk.claim("run-1")

    with pytest.raises(BatchRejected) as rejected:
        desk.parse(claimed, max_rows=1)

    assert rejected.value.code == "row-limit"


def test_a_claimed_file_that_was_purged_is_missing():
    desk = Desk()
    claimed = desk.claim("run-1")
    desk.store.delete(FOLDER.request)

    with pytest.raises(ObjectMissing):
        desk.parse(claimed)
