"""What ended a run is what its batch's problem says."""

from pathlib import Path

import dagster as dg
import pytest

from assetgen_pipeline.defs.assets import owner_tags
from assetgen_pipeline.defs.build import build_definitions
from assetgen_pipeline.defs.closing import MAX_DEATHS, close_failed_run
from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.defs.run_failure import why_failed
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import (
    RESUMES_FIX,
    LedgerUnavailable,
    PriceUnknown,
    StorageUnavailable,
)
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import Settings
from assetgen_pipeline.stages.orders import order_cancel
from assetgen_pipeline.stages.waiting_batches import read_waiting
from assetgen_pipeline_tests.builders import BATCH_ID, a_csv
from assetgen_pipeline_tests.fake_deployment import add_run


def fail(deployment, error, opening=None):
    """Have a run fail by an error, and close it as the sensor does."""
    if not deployment.has(BatchFolder(BATCH_ID).request):
        deployment.upload(a_csv(["S1", "a kitchen"]))
    deployment.choose(open_provider=opening or raises(error))
    result = deployment.run()
    run = deployment.instance.get_run_by_id(result.run_id)
    close_failed_run(deployment.instance, run, services=deployment.services)
    return deployment.instance.get_run_by_id(result.run_id)


def raises(error):
    def open_nothing(*_arguments):
        raise error

    return open_nothing


@pytest.mark.parametrize(
    "error",
    [PriceUnknown("no price"), ProviderError("no", kind=ErrorKind.AUTH)],
    ids=lambda error: error.code,
)
def test_an_error_of_ours_in_a_step_is_the_problem_of_its_batch_and_nobody_goes_on(
    deployment, error
):
    fail(deployment, error)

    status = deployment.status()
    assert status.state is BatchState.FAILED
    fix = error.fix.replace("BATCH", BATCH_ID)
    assert (status.problem["code"], status.problem["fix"]) == (error.code, fix)
    assert "resumes" not in status.problem
    assert read_waiting(BATCH_ID, store=deployment.store) is None


@pytest.fixture(
    params=[StorageUnavailable("gone"), LedgerUnavailable("away")], ids=lambda e: e.code
)
def outage(request):
    return request.param


def test_a_batch_that_an_outage_failed_goes_on_by_itself_once_it_can_be_closed(deployment, outage):
    run = fail(deployment, outage)

    status, waiting = deployment.status(), read_waiting(BATCH_ID, store=deployment.store)
    assert (status.state, status.resumes) == (BatchState.FAILED, True)
    assert (status.problem["code"], status.problem["fix"]) == (outage.code, RESUMES_FIX)
    assert waiting.cause == "run"

    # Whoever was killed before the last word does it again, and changes nothing.
    close_failed_run(deployment.instance, run, services=deployment.services)
    assert read_waiting(BATCH_ID, store=deployment.store) == waiting
    deployment.choose(open_provider=lambda *_: deployment.provider)
    assert deployment.run().success
    assert deployment.status().state is BatchState.COMPLETED


def test_a_batch_that_outages_fail_again_and_again_is_given_up(deployment, outage):
    said = []
    for _ in range(MAX_DEATHS + 1):
        fail(deployment, outage)
        waits = read_waiting(BATCH_ID, store=deployment.store) is not None
        said.append((deployment.status().resumes, waits))

    assert said == [(True, True)] * MAX_DEATHS + [(False, False)]
    assert deployment.status().problem["fix"] == outage.fix


def test_a_batch_that_was_to_stop_when_an_outage_failed_it_is_cancelled(deployment, outage):
    def ordered(*_arguments):
        order_cancel(BATCH_ID, by="ann", store=deployment.store, clock=deployment.clock)
        raise outage

    fail(deployment, outage, ordered)

    assert deployment.status().state is BatchState.CANCELLED
    assert read_waiting(BATCH_ID, store=deployment.store) is None


def test_a_resumed_batch_that_the_budget_refuses_stays_refused(deployment, outage):
    fail(deployment, outage)
    deployment.ledger.set_limit("studio", Money(1), set_by="ann")

    run = fail(deployment, outage)

    assert deployment.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE
    assert deployment.status().state is BatchState.REFUSED
    assert read_waiting(BATCH_ID, store=deployment.store) is None


def test_a_ledger_that_cannot_be_opened_is_named_although_no_step_began(deployment):
    deployment.upload(a_csv(["S1", "a kitchen"]))
    unopened = dg.ResourceDefinition(raises(LedgerUnavailable("away")))
    definitions = build_definitions(
        Settings(home=Path("/unused")), resources={**deployment.resources, "services": unopened}
    )
    deployment.instance.add_dynamic_partitions(batches.name, [BATCH_ID])

    result = definitions.resolve_job_def("generate_batch").execute_in_process(
        partition_key=BATCH_ID,
        instance=deployment.instance,
        tags=owner_tags(BATCH_ID),
        raise_on_error=False,
    )

    found = why_failed(deployment.instance, result.run_id)
    assert (found.code, found.fix) == (LedgerUnavailable.code, LedgerUnavailable.fix)


def test_a_bug_in_a_step_is_a_failure_that_needs_a_look(deployment):
    deployment.upload(a_csv(["S1", "a kitchen"]))
    deployment.choose(open_provider=raises(KeyError("what we did not think of")))
    result = deployment.run()

    found = why_failed(deployment.instance, result.run_id)

    assert found.code == "internal"
    assert "retry" in found.fix


def test_a_run_without_any_event_failed_for_a_reason_that_nobody_knows(instance):
    run = add_run(instance, status=dg.DagsterRunStatus.FAILURE)

    assert why_failed(instance, run.run_id).code == "internal"
