"""A failed shard is executed again alone, as the Dagster UI does it."""

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob

from assetgen_pipeline.defs.build import build_definitions
from assetgen_pipeline.defs.closing import close_run
from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.defs.run_failure import RunFailed
from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import Settings
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, a_csv
from assetgen_pipeline_tests.fake_deployment import FakeDeployment, add_run

STAGE = {}
ROWS = a_csv(*([f"S{n}", f"scene {n}"] for n in range(6)))


def the_job():
    """What a worker would load; here it is this process's deployment of fakes."""
    definitions = build_definitions(Settings(home="/unused"), resources=STAGE["fakes"].resources)
    return definitions.resolve_job_def("generate_batch")


class CrashesOnce(ScriptedProvider):
    """Has a bug that one item of the second shard meets."""

    async def generate(self, image, references, token):
        if image.item_key == "S3/1":
            raise RuntimeError("a bug in the provider")
        return await super().generate(image, references, token)


@pytest.fixture
def fakes(tmp_path):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        STAGE["fakes"] = FakeDeployment(instance, provider=CrashesOnce(), shard_rows=2)
        STAGE["fakes"].upload(ROWS)
        instance.add_dynamic_partitions(batches.name, [BATCH_ID])
        yield STAGE["fakes"]
        # Dagster keeps the job that it loaded last, and with it these fakes.
        ReconstructableJob.get_definition.cache_clear()
        ReconstructableJob.get_repository_definition.cache_clear()


def execute(fakes, **options):
    with dg.execute_job(
        dg.reconstructable(the_job),
        instance=fakes.instance,
        tags={"dagster/partition": BATCH_ID, "assetgen/owner": "studio"},
        **options,
    ) as result:
        steps = {e.step_key for e in result.all_events if e.is_step_start}
        return result, steps


def shards(steps):
    return sorted(step for step in steps if "generate_shard_images" in step)


def test_only_the_failed_shard_runs_again_under_a_hold_of_its_own(fakes):
    failed, _ = execute(fakes)
    run = fakes.instance.get_run_by_id(failed.run_id)
    close_run(fakes.instance, run, RunFailed("a step of the run failed"), services=fakes.services)
    asked_before = sorted(fakes.asked())
    fakes.provider = ScriptedProvider()

    again, steps = execute(
        fakes,
        reexecution_options=dg.ReexecutionOptions.from_failure(failed.run_id, fakes.instance),
    )

    assert not failed.success
    assert asked_before == ["S0/1", "S1/1", "S2/1", "S4/1", "S5/1"]
    assert again.success
    assert shards(steps) == ["generated_images.generate_shard_images[1]"]
    assert fakes.asked() == ["S3/1"]
    assert fakes.status().state is BatchState.COMPLETED
    assert fakes.ledger.open_holds() == []
    assert [c.name for c in fakes.ledger.verify() if c.violations] == []
    assert b"S3" in fakes.store.read(BatchFolder(BATCH_ID).results)


def test_beside_a_live_other_run_a_failed_shard_is_not_made_again(fakes):
    failed, _ = execute(fakes)
    run = fakes.instance.get_run_by_id(failed.run_id)
    close_run(fakes.instance, run, RunFailed("a step of the run failed"), services=fakes.services)
    fakes.provider = ScriptedProvider()
    live = add_run(
        fakes.instance,
        status=dg.DagsterRunStatus.STARTED,
        assetgen__worker=worker_identity(),
    )
    hold = fakes.ledger.reserve(
        owner="studio",
        batch_id=BATCH_ID,
        run_id=live.run_id,
        amount=Money(2_000),
        price_version="1",
    )

    again, steps = execute(
        fakes,
        reexecution_options=dg.ReexecutionOptions.from_failure(failed.run_id, fakes.instance),
    )

    assert not again.success
    assert shards(steps) == ["generated_images.generate_shard_images[1]"]
    assert fakes.asked() == []
    assert fakes.ledger.open_hold(BATCH_ID) == hold
