"""Approval: who must wait, who approved what, and until when."""

from datetime import timedelta

import pytest

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import (
    ApprovalExpired,
    BatchNotFound,
    NotAwaitingApproval,
    StorageUnavailable,
)
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.approvals import (
    ApprovalPolicy,
    expires_at,
    must_wait,
    proposed_approval,
    read_approval,
    record_approval,
)
from assetgen_pipeline.stages.batch_status import read_status, write_status
from assetgen_pipeline.stages.waiting_batches import read_waiting, stop_waiting
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, NOW
from assetgen_pipeline_tests.stage_bench import Bench, some_requests

DEAR = Money(5_000)
POLICY = ApprovalPolicy(above=Money(4_000), expires=timedelta(days=2))
FOLDER = BatchFolder(BATCH_ID)


def waiting_batch():
    bench = Bench()
    batch = bench.open(*some_requests(2))
    assert must_wait(batch, DEAR, policy=POLICY, services=bench.services)
    return bench, batch


def approve(bench, by="ann@desk"):
    approval = proposed_approval(BATCH_ID, by=by, policy=POLICY, services=bench.services)
    record_approval(approval, services=bench.services)
    return approval


def test_a_batch_above_the_limit_waits_holding_nothing_and_shows_its_estimate():
    bench, _ = waiting_batch()

    status = read_status(BATCH_ID, store=bench.store)
    assert status.state is BatchState.AWAITING_APPROVAL
    assert (status.estimate_usd, status.reserved_usd, status.rows) == (DEAR.usd(), "0.000000", 2)
    assert (status.images.requested, status.images.not_attempted) == (2, 2)
    assert bench.ledger.open_holds() == []
    assert read_waiting(BATCH_ID, store=bench.store).cause == "approval"


@pytest.mark.parametrize(
    ("estimate", "policy"),
    [(Money(4_000), POLICY), (Money(0), POLICY), (Money(10**9), ApprovalPolicy())],
)
def test_a_batch_at_the_limit_and_one_without_a_limit_do_not_wait(estimate, policy):
    bench = Bench()
    batch = bench.open(*some_requests(1))

    assert not must_wait(batch, estimate, policy=policy, services=bench.services)
    assert bench.store.stat(FOLDER.status) is None


def test_an_approved_batch_does_not_wait_again():
    bench, batch = waiting_batch()

    approve(bench)

    assert not must_wait(batch, DEAR, policy=POLICY, services=bench.services)


@pytest.mark.parametrize("name", [FOLDER.approval, FOLDER.waiting, FOLDER.status])
def test_an_approval_that_the_bucket_broke_off_can_be_given_again(name):
    class GoesAway(InMemoryObjectStore):
        """Is away when one object is to be written."""

        gone = ""

        def write(self, written, *args, **options):
            if written == self.gone:
                raise StorageUnavailable("the bucket is away")
            return super().write(written, *args, **options)

    bench = Bench(store=GoesAway(BUCKET))
    batch = bench.open(*some_requests(2))
    must_wait(batch, DEAR, policy=POLICY, services=bench.services)
    bench.store.gone = name
    with pytest.raises(StorageUnavailable):
        approve(bench)
    between = read_status(BATCH_ID, store=bench.store).state
    bench.store.gone = ""

    approve(bench)

    # In any other state `approve` has nothing left to do.
    assert between is BatchState.AWAITING_APPROVAL
    assert read_status(BATCH_ID, store=bench.store).state is BatchState.RECEIVED
    assert read_waiting(BATCH_ID, store=bench.store).cause == "run"


def test_an_approval_records_who_when_and_how_much_and_asks_for_a_run():
    bench, _ = waiting_batch()

    approve(bench)

    kept = read_approval(BATCH_ID, store=bench.store)
    assert (kept.approved_by, kept.approved_at, kept.amount_usd) == (
        "ann@desk", NOW.isoformat(), DEAR.usd(),
    )  # fmt: skip
    assert read_waiting(BATCH_ID, store=bench.store).cause == "run"
    assert read_status(BATCH_ID, store=bench.store).state is BatchState.RECEIVED


def test_a_price_that_rose_after_approval_needs_another_one():
    bench, batch = waiting_batch()
    approve(bench)

    assert must_wait(batch, DEAR + Money(1), policy=POLICY, services=bench.services)


def test_a_file_that_changed_after_approval_needs_another_one():
    bench, batch = waiting_batch()
    approve(bench)
    bench.store.write(FOLDER.request, b"scene_id,prompt\nS1,dearer\n", content_type="text/csv")

    assert must_wait(batch, DEAR, policy=POLICY, services=bench.services)


def test_approving_twice_keeps_who_approved_first():
    bench, _ = waiting_batch()
    first = approve(bench)

    again = proposed_approval(BATCH_ID, by="bob", policy=POLICY, services=bench.services)

    assert again == first


def test_a_batch_that_does_not_wait_cannot_be_approved():
    bench = Bench()
    write_status(BATCH_ID, BatchState.RUNNING, store=bench.store, clock=bench.clock)

    with pytest.raises(NotAwaitingApproval, match="is running"):
        approve(bench)


def test_a_batch_that_nobody_knows_cannot_be_approved():
    with pytest.raises(BatchNotFound):
        approve(Bench())


@pytest.mark.parametrize("listed", [True, False])
def test_a_batch_that_waited_too_long_cannot_be_approved(listed):
    bench, _ = waiting_batch()
    if not listed:
        stop_waiting(BATCH_ID, store=bench.store)
    status = read_status(BATCH_ID, store=bench.store)
    assert expires_at(status, policy=POLICY, services=bench.services) == NOW + POLICY.expires
    bench.clock.advance(POLICY.expires)

    with pytest.raises(ApprovalExpired):
        approve(bench)


def test_a_limit_that_was_lifted_lets_a_waiting_batch_go_on_and_off_the_list():
    bench, batch = waiting_batch()

    assert not must_wait(batch, DEAR, policy=ApprovalPolicy(), services=bench.services)
    assert read_waiting(BATCH_ID, store=bench.store) is None
