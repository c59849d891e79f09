"""A purge beside runs of its owner: one of them waits or is refused, and no link dies."""

import asyncio
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from assetgen_pipeline.defs import graph_assets
from assetgen_pipeline.defs.assets import owner_tags
from assetgen_pipeline.defs.closing import sweep
from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.defs.purge_runs import purge_run, purge_under_way, see_purge_goes_on
from assetgen_pipeline.defs.runs import PARTITION_TAG
from assetgen_pipeline.defs.slot_queue import execute_here
from assetgen_pipeline.defs.workers import WORKER_TAG, worker_identity
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import BatchBusy, PurgeStopped, StorageUnavailable
from assetgen_pipeline.domain.references import ReferenceDecision
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_files import read_artifact
from assetgen_pipeline.stages.orders import order_cancel
from assetgen_pipeline.stages.purge_batch import plan_purge, purge_batch
from assetgen_pipeline_tests.builders import BATCH_ID
from assetgen_pipeline_tests.fake_deployment import FakeDeployment, add_run, waits
from assetgen_pipeline_tests.processes import until

ROOT = Path(__file__).parents[2]
OWNER = "studio"
OTHER = "studio.autumn.00000002"
STRANGERS = "guild.autumn.00000003"
CSV = b"scene_id,prompt,reference_urls\nS1,a kitchen,https://reference.test/1.png\n"
PICTURE = {"https://reference.test/1.png": b"a picture"}


@pytest.fixture
def instance(tmp_path):
    (tmp_path / "dagster.yaml").write_bytes((ROOT / "dagster.yaml").read_bytes())
    with dg.DagsterInstance.from_config(str(tmp_path)) as opened:
        for pool in ("generation", "reference_fetch"):
            opened.event_log_storage.set_concurrency_slots(pool, 1)
        yield opened


@pytest.fixture
def fakes(instance):
    """A batch that ran to its end, and another that asks for the same."""
    made = FakeDeployment(instance, references=PICTURE)
    for batch_id in (BATCH_ID, OTHER):
        made.upload(CSV, batch_id=batch_id)
    assert made.run().success
    return made


@pytest.fixture
def purge(instance, fakes):
    """A purge of the first batch that has looked for runs and has deleted nothing."""
    made = Purge(fakes)
    yield made
    made.end()


class Purge:
    """A purge, step by step."""

    def __init__(self, fakes, batch_id=BATCH_ID):
        self.fakes, self.batch_id = fakes, batch_id
        self._run = ExitStack()
        self.run_id = self._run.enter_context(purge_run(fakes.instance, batch_id))
        self.plan = asyncio.run(plan_purge(batch_id, services=fakes.services))

    def delete(self):
        goes_on = partial(see_purge_goes_on, self.fakes.instance, self.run_id)
        work = purge_batch(self.plan, services=self.fakes.services, see_it_goes_on=goes_on)
        return asyncio.run(work)

    def end(self):
        self._run.close()

    def is_waited_for(self):
        """Whether the other batch's run says so, or has ended without waiting."""
        runs = self.fakes.instance.get_runs(dg.RunsFilter(tags={PARTITION_TAG: OTHER}))
        told = [log.message for run in runs for log in self.fakes.instance.all_logs(run.run_id)]
        return f"waits until {self.batch_id} is purged" in told or any(r.is_finished for r in runs)


def run_beside(purge, *meanwhile):
    """Run the other batch in this thread, and this in another; how the run ended."""
    fakes = purge.fakes

    def work():
        try:
            until(purge.is_waited_for)
            for step in meanwhile:
                step()
        finally:
            purge.end()

    fakes.instance.add_dynamic_partitions(batches.name, [OTHER])
    with ThreadPoolExecutor(max_workers=1) as thread:
        done = thread.submit(work)
        result = execute_here(
            fakes.definitions.resolve_job_def("generate_batch"),
            OTHER,
            instance=fakes.instance,
            tags=owner_tags(OTHER),
        )
        done.result()
    return fakes.instance.get_run_by_id(result.run_id).status


def standing(fakes, batch_id):
    """Of each object that the results of a batch need, whether it is there."""
    [image] = [one.image for one in fakes.ledger.attempts(batch_id) if one.image is not None]
    decision = read_artifact(batch_id, "reference_images", ReferenceDecision, store=fakes.store)
    used = [reference.object_name for row in decision.rows for reference in row.used]
    return [fakes.has(name) for name in (image.object_name, image.thumbnail_name, *used)]


def test_a_run_beside_a_purge_waits_and_makes_what_was_purged_again(fakes, purge):
    assert run_beside(purge, purge.delete) is dg.DagsterRunStatus.SUCCESS

    assert fakes.status(OTHER).state is BatchState.COMPLETED
    assert standing(fakes, OTHER) == [True, True, True]
    assert fakes.asked() == ["S1/1", "S1/1"]
    assert not fakes.has(BatchFolder(BATCH_ID).request)


def test_a_run_of_the_batch_that_is_purged_buys_nothing_for_it(fakes):
    purge = Purge(fakes, OTHER)

    assert run_beside(purge, purge.delete) is dg.DagsterRunStatus.FAILURE
    assert fakes.asked() == ["S1/1"]


def test_a_run_that_is_there_before_the_purge_refuses_it(instance, fakes):
    add_run(instance, status=dg.DagsterRunStatus.STARTING, batch_id=OTHER)

    with pytest.raises(BatchBusy, match=OTHER), purge_run(instance, BATCH_ID):
        pytest.fail("the purge began")

    assert purge_under_way(instance, OWNER) is None


@pytest.mark.parametrize(
    ("status", "batch_id"),
    [
        (dg.DagsterRunStatus.STARTED, STRANGERS),
        (dg.DagsterRunStatus.STARTED, "2026-01-05"),
        (dg.DagsterRunStatus.NOT_STARTED, OTHER),
        (dg.DagsterRunStatus.SUCCESS, OTHER),
    ],
)
def test_a_run_that_uses_nothing_of_the_owners_refuses_none(instance, status, batch_id):
    add_run(instance, status=status, batch_id=batch_id)

    with purge_run(instance, BATCH_ID):
        assert purge_under_way(instance, OWNER) == BATCH_ID
    assert purge_under_way(instance, OWNER) is None


def test_two_purges_of_an_owner_do_not_meet(instance):
    with purge_run(instance, BATCH_ID):
        with pytest.raises(BatchBusy, match=BATCH_ID), purge_run(instance, OTHER):
            pytest.fail("the second purge began")
        with purge_run(instance, STRANGERS):
            assert purge_under_way(instance, "guild") == STRANGERS


def test_the_queue_starts_no_batch_of_the_owner_beside_a_purge(instance):
    with purge_run(instance, BATCH_ID) as run_id:
        run = instance.get_run_by_id(run_id)

    assert run.tags["assetgen/owner"] == OWNER
    limits = instance.get_concurrency_config().run_queue_config.tag_concurrency_limits
    assert [limit["key"] for limit in limits] == ["assetgen/owner"]


def test_a_purge_that_died_holds_nobody_up_and_is_swept(instance, fakes, purge):
    process = subprocess.Popen(["sleep", "600"])
    worker = worker_identity(process.pid)
    instance.add_run_tags(purge.run_id, {WORKER_TAG: worker})
    assert purge_under_way(instance, OWNER) == BATCH_ID

    process.kill()
    process.wait()

    assert purge_under_way(instance, OWNER) is None
    assert sweep(instance, services=fakes.services) == [purge.run_id]
    assert instance.get_run_by_id(purge.run_id).status is dg.DagsterRunStatus.FAILURE


def test_a_purge_whose_run_was_ended_deletes_no_more(instance, fakes, purge):
    before = list(fakes.store.list(""))
    instance.report_run_failed(instance.get_run_by_id(purge.run_id))

    with pytest.raises(PurgeStopped):
        purge.delete()

    assert list(fakes.store.list("")) == before


def test_a_purge_that_fails_is_over(instance, fakes):
    with pytest.raises(StorageUnavailable), purge_run(instance, BATCH_ID) as run_id:
        raise StorageUnavailable("away")

    assert instance.get_run_by_id(run_id).status is dg.DagsterRunStatus.FAILURE
    assert purge_under_way(instance, OWNER) is None


def test_cancelled_while_it_waits_for_a_purge_a_run_ends(fakes, purge):
    def cancel():
        order_cancel(OTHER, by="ann", store=fakes.store, clock=fakes.clock)
        until(lambda: fakes.status(OTHER).state is BatchState.CANCELLED)

    assert run_beside(purge, cancel) is dg.DagsterRunStatus.CANCELED
    assert fakes.asked() == ["S1/1"]
    assert fakes.ledger.open_holds() == []


def test_told_to_end_while_it_waits_for_a_purge_a_run_leaves_its_batch_to_the_next(fakes, purge):
    def terminate():
        os.kill(os.getpid(), signal.SIGTERM)
        until(lambda: waits(fakes, OTHER))

    assert run_beside(purge, terminate) is dg.DagsterRunStatus.SUCCESS
    assert waits(fakes, OTHER) == "run"
    assert fakes.asked() == ["S1/1"]


@pytest.mark.parametrize("step", ["merge_references", "generate_shard_images"])
def test_every_later_step_waits_too(fakes, purge, step, monkeypatch):
    began = []
    real = graph_assets.stand_aside

    async def noted(context, **rest):
        began.append(context.op.name)
        await real(context, **rest)

    monkeypatch.setattr(graph_assets, "stand_aside", noted)

    run_beside(purge, purge.delete)

    assert step in began
