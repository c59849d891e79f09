"""Single assets of a batch, materialized by hand in the UI."""

import dagster as dg
import pytest

from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline_tests.builders import BATCH_ID, a_csv
from assetgen_pipeline_tests.fake_deployment import add_run, failures, materialized

CSV = a_csv(*([f"S{n}", f"scene {n}"] for n in range(1, 4)))
BEFORE_MONEY = ("batch_requests",)
BEFORE_IMAGES = (*BEFORE_MONEY, "budget_hold", "reference_images")
BEFORE_COSTS = (*BEFORE_IMAGES, "generated_images", "delivered_images", "signed_urls")


def materialize(deployment, *assets):
    deployment.instance.add_dynamic_partitions(batches.name, [BATCH_ID])
    return deployment.definitions.resolve_job_def("generate_batch").execute_in_process(
        partition_key=BATCH_ID,
        instance=deployment.instance,
        asset_selection=[dg.AssetKey(asset) for asset in assets],
        raise_on_error=False,
    )


def test_a_batch_can_be_made_one_asset_after_the_other(deployment):
    deployment.upload(CSV)

    results = [materialize(deployment, asset) for asset in (*BEFORE_COSTS, "batch_costs")]

    assert [result.success for result in results] == [True] * 7
    assert deployment.status().state is BatchState.COMPLETED
    assert sorted(deployment.asked()) == ["S1/1", "S2/1", "S3/1"]
    assert deployment.ledger.open_holds() == []


@pytest.mark.parametrize(
    ("made", "asset", "step"),
    [
        (BEFORE_MONEY, "budget_hold", "budget_hold"),
        (BEFORE_IMAGES, "generated_images", "generated_images.plan_generation"),
        (BEFORE_COSTS, "batch_costs", "batch_costs"),
    ],
)
def test_what_touches_the_hold_of_a_live_other_run_is_refused(deployment, made, asset, step):
    deployment.upload(CSV)
    materialize(deployment, *made)
    before = deployment.asked()
    deployment.ledger.settle(BATCH_ID)
    live = add_run(
        deployment.instance,
        status=dg.DagsterRunStatus.STARTED,
        assetgen__worker=worker_identity(),
    )
    day = deployment.ledger.day("studio")
    hold = deployment.ledger.reserve(
        owner="studio",
        batch_id=BATCH_ID,
        run_id=live.run_id,
        amount=day.headroom,
        price_version="1",
    )

    result = materialize(deployment, asset)

    assert materialized(result) == set()
    assert failures(result)[step].startswith("storage-conflict: another run works on")
    assert deployment.ledger.open_hold(BATCH_ID) == hold
    assert deployment.asked() == before
