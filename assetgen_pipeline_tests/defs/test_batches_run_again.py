"""A batch that another run has or had: who gets it, what is kept, nothing paid twice."""

import dagster as dg

from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, a_csv
from assetgen_pipeline_tests.fake_deployment import (
    TWO_ROWS,
    FakeDeployment,
    add_run,
    failures,
    materialized,
)

FOLDER = BatchFolder(BATCH_ID)


class CrashesOn(ScriptedProvider):
    """A provider with a bug: one item raises what no adapter of ours may raise."""

    def __init__(self, item_key):
        super().__init__()
        self.item_key = item_key

    async def generate(self, image, references, token):
        if image.item_key == self.item_key:
            raise RuntimeError("a bug in the provider")
        return await super().generate(image, references, token)


def test_a_run_that_meets_a_live_other_run_ends_quietly_and_touches_nothing(deployment):
    other = add_run(
        deployment.instance,
        status=dg.DagsterRunStatus.STARTED,
        assetgen__worker=worker_identity(),
    )
    deployment.upload(TWO_ROWS, run_id=other.run_id)
    before = {o.name: o.generation for o in deployment.store.list("")}

    result = deployment.run()

    assert result.success
    assert materialized(result) == set()
    assert {o.name: o.generation for o in deployment.store.list("")} == before
    assert deployment.asked() == []


def test_a_claim_of_a_run_that_is_over_is_taken_over(deployment):
    other = add_run(deployment.instance, status=dg.DagsterRunStatus.FAILURE)
    deployment.upload(TWO_ROWS, run_id=other.run_id)

    result = deployment.run()

    assert result.success
    claimed = deployment.store.stat(FOLDER.request)
    assert claimed.metadata["claimed_by"] == result.run_id
    assert deployment.store.read(FOLDER.request) == TWO_ROWS


def test_a_second_run_after_a_failing_provider_generates_only_what_is_missing(instance):
    no_key = ProviderError("the key is refused", kind=ErrorKind.AUTH)
    deployment = FakeDeployment(
        instance,
        provider=ScriptedProvider({"S1/2": [no_key]}),
        generation_concurrency=1,
    )
    deployment.upload(TWO_ROWS)
    deployment.run()
    assert deployment.status().images.delivered == 1
    assert deployment.status().images.not_attempted == 1
    deployment.provider = ScriptedProvider()

    result = deployment.run()

    assert result.success
    assert deployment.status().state is BatchState.COMPLETED
    assert sorted(deployment.asked()) == ["S1/2", "S2/1"]
    assert deployment.spent_micros() == (0, 3 * 2_000)


def test_a_second_run_after_a_crash_in_the_middle_pays_nothing_twice(instance):
    deployment = FakeDeployment(instance, provider=CrashesOn("S2/1"), generation_concurrency=1)
    deployment.upload(TWO_ROWS)
    crashed = deployment.run()
    assert not crashed.success
    assert "a bug in the provider" in "".join(failures(crashed).values())
    deployment.provider = ScriptedProvider()

    result = deployment.run()

    assert result.success
    assert deployment.asked() == ["S2/1"]
    captured = [a for a in deployment.ledger.attempts(BATCH_ID) if a.image is not None]
    assert sorted(a.item_key for a in captured) == ["S1/1", "S1/2", "S2/1"]


def test_a_second_run_keeps_the_first_runs_reference_decision(instance):
    url = "https://93.184.216.34/gone.png"
    deployment = FakeDeployment(instance, provider=CrashesOn("S1/1"))
    deployment.upload(
        a_csv(["S1", "a kitchen", url], header=["scene_id", "prompt", "reference_urls"])
    )
    deployment.run()
    asked_first = list(deployment.fetcher.urls)
    assert set(asked_first) == {url}
    deployment.provider = ScriptedProvider()

    assert deployment.run().success

    assert deployment.fetcher.urls == asked_first
    assert deployment.provider.requests[0].references == ()


def test_artifacts_that_were_damaged_are_made_again_and_nothing_is_paid_twice(instance):
    deployment = FakeDeployment(instance)
    deployment.upload(TWO_ROWS)
    assert deployment.run().success
    asked = len(deployment.asked())
    for asset in ("batch_requests", "budget_hold", "reference_images", "generated_images"):
        deployment.store.write(FOLDER.artifact(asset), b"garbage", content_type="application/json")

    assert deployment.run().success

    assert deployment.status().state is BatchState.COMPLETED
    assert len(deployment.asked()) == asked
