"""Recovery: dead runs lose their holds, live ones never do, and I10 says which were missed."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from assetgen_pipeline.defs.recovery import check_holds, fate_of, recover
from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.recover_holds import RunFate
from assetgen_pipeline_tests.builders import BATCH_ID, a_csv
from assetgen_pipeline_tests.fake_deployment import add_run, hold
from assetgen_pipeline_tests.ledger_helpers import request

OTHER = "studio.other.0123abcd"
CSV = a_csv(["S1", "a kitchen"], ["S2", "a harbour"])
STATUS = dg.DagsterRunStatus
OVER = [STATUS.SUCCESS, STATUS.FAILURE, STATUS.CANCELED]


def run_of(deployment, status, **tags):
    return add_run(deployment.instance, status=status, **tags)


@pytest.mark.parametrize("status", OVER)
def test_a_run_that_is_over_is_dead(deployment, status):
    run = run_of(deployment, status)

    assert fate_of(deployment.instance, hold(deployment, run.run_id)) is RunFate.FINISHED


@pytest.mark.parametrize("status", [STATUS.STARTING, STATUS.STARTED, STATUS.CANCELING])
def test_a_run_under_way_is_dead_only_when_its_process_is(deployment, gone, status):
    live = run_of(deployment, status, assetgen__worker=worker_identity())
    dead = run_of(deployment, status, assetgen__worker=gone)
    unsigned = run_of(deployment, status)

    fates = [
        fate_of(deployment.instance, hold(deployment, run.run_id)) for run in (live, dead, unsigned)
    ]

    assert fates == [RunFate.WORKING, RunFate.GONE, RunFate.WORKING]


def test_an_unknown_run_is_dead_only_when_its_process_is(deployment, gone):
    elsewhere = worker_identity().replace(worker_identity().split("/")[0], "another-host")

    fates = [
        fate_of(deployment.instance, hold(deployment, "nobody", worker=worker))
        for worker in (worker_identity(), gone, elsewhere, "")
    ]

    assert fates == [RunFate.UNKNOWN, RunFate.GONE, RunFate.UNKNOWN, RunFate.UNKNOWN]


def test_a_hold_of_a_run_that_dagster_forgot_is_freed_and_its_batch_closed(deployment, gone):
    deployment.upload(CSV)
    held = hold(deployment, "forgotten", worker=gone)
    deployment.ledger.intent(held, request("S1/1", 100))

    done = recover(deployment.instance, services=deployment.services)

    assert [finding.released for finding in done.holds] == [Money(400)]
    assert deployment.ledger.open_holds() == []
    assert [a.state for a in deployment.ledger.attempts(BATCH_ID)] == [AttemptState.ASSUMED]
    assert deployment.status().state is BatchState.FAILED
    assert done.summary() == f"expired the holds of {BATCH_ID}"


@pytest.mark.parametrize(
    ("status", "state"),
    [(STATUS.FAILURE, BatchState.FAILED), (STATUS.CANCELED, BatchState.CANCELLED)],
)
def test_a_finished_runs_batch_ends_as_its_run_did(deployment, status, state):
    deployment.upload(CSV)
    run = run_of(deployment, status)
    hold(deployment, run.run_id)

    recover(deployment.instance, services=deployment.services)

    assert deployment.status().state is state
    assert deployment.ledger.open_holds() == []


def test_a_run_that_only_reserved_loses_its_hold_and_ends_nothing(deployment):
    run = run_of(deployment, STATUS.SUCCESS)
    hold(deployment, run.run_id)

    recover(deployment.instance, services=deployment.services)

    assert deployment.ledger.open_holds() == []
    assert list(deployment.store.list("outbox/")) == []


def test_an_unknown_runs_hold_is_left_and_reported_until_the_operator_says_so(deployment):
    hold(deployment, "elsewhere")

    left = recover(deployment.instance, services=deployment.services)
    assert [(f.fate, f.released) for f in left.holds] == [(RunFate.UNKNOWN, None)]
    assert len(deployment.ledger.open_holds()) == 1

    recover(deployment.instance, services=deployment.services, also_unknown=True)
    assert deployment.ledger.open_holds() == []


def test_a_batch_that_a_live_run_took_over_is_not_ended_by_the_sweep_of_its_former_run(
    deployment, gone
):
    deployment.upload(CSV)
    dead = run_of(deployment, STATUS.STARTED, assetgen__worker=gone)
    live = run_of(deployment, STATUS.STARTED, assetgen__worker=worker_identity())
    hold(deployment, dead.run_id)
    kept = hold(deployment, live.run_id)

    done = recover(deployment.instance, services=deployment.services)

    assert done.ended_runs == (dead.run_id,)
    assert deployment.instance.get_run_by_id(dead.run_id).status is STATUS.FAILURE
    assert deployment.ledger.open_holds() == [kept]
    deployment.ledger.intent(kept, request("S1/1", 100))
    assert not deployment.has(f"outbox/studio/{BATCH_ID}/problem.json")


def test_what_a_dead_run_holds_refuses_no_other_batch_of_its_owner(deployment, gone):
    deployment.ledger.set_limit("studio", Money(4_000), set_by="op")
    dead = run_of(deployment, STATUS.STARTED, batch_id=OTHER, assetgen__worker=gone)
    hold(deployment, dead.run_id, batch_id=OTHER)
    deployment.upload(CSV)

    assert deployment.run().success

    assert deployment.status().state is BatchState.COMPLETED
    assert deployment.ledger.open_hold(OTHER) is None


def test_what_a_live_run_holds_does(deployment):
    deployment.ledger.set_limit("studio", Money(4_000), set_by="op")
    live = run_of(deployment, STATUS.STARTED, batch_id=OTHER, assetgen__worker=worker_identity())
    hold(deployment, live.run_id, batch_id=OTHER)
    deployment.upload(CSV)

    assert not deployment.run().success

    assert deployment.status().state is BatchState.REFUSED
    assert deployment.ledger.open_hold(OTHER) is not None


def test_a_batch_names_the_process_that_holds_its_money(deployment):
    deployment.upload(CSV)
    seen = []
    original = deployment.ledger.reserve
    deployment.ledger.reserve = lambda **wanted: seen.append(wanted["worker"]) or original(**wanted)

    deployment.run()

    assert seen == [worker_identity()]


def late(deployment, after):
    now = datetime.now(UTC) + after
    return check_holds(deployment.instance, deployment.ledger.open_holds(), now=now).violations


@pytest.mark.parametrize("status", OVER)
def test_a_hold_five_minutes_after_its_run_breaks_i10(deployment, status):
    run = add_run(deployment.instance, status=STATUS.STARTED)
    hold(deployment, run.run_id)
    report = {
        STATUS.FAILURE: deployment.instance.report_run_failed,
        STATUS.CANCELED: deployment.instance.report_run_canceled,
        STATUS.SUCCESS: lambda run: deployment.instance.report_dagster_event(
            dg.DagsterEvent("PIPELINE_SUCCESS", run.job_name), run.run_id
        ),
    }[status]
    assert late(deployment, timedelta(hours=1)) == ()

    report(run)

    assert late(deployment, timedelta(minutes=4)) == ()
    assert late(deployment, timedelta(minutes=6)) == (f"{BATCH_ID} holds $0.0005 for a dead run",)


def test_a_hold_of_a_process_that_is_gone_breaks_i10_and_one_of_an_unknown_run_after_a_day(
    deployment, gone
):
    deployment.clock.set(datetime.now(UTC))
    hold(deployment, "forgotten", worker=gone)
    hold(deployment, "elsewhere", batch_id=OTHER)

    assert late(deployment, timedelta(minutes=4)) == ()
    assert len(late(deployment, timedelta(minutes=6))) == 1
    assert len(late(deployment, timedelta(hours=25))) == 2
