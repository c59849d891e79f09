"""The whole graph on fakes: what a batch leaves behind, however it ends."""

import json

import dagster as dg

from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.close_batch import close_batch
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, a_csv
from assetgen_pipeline_tests.fake_deployment import (
    FakeDeployment,
    add_run,
    failures,
    materialized,
)

FOLDER = BatchFolder(BATCH_ID)
EVERY_ASSET = {
    "batch_requests",
    "budget_hold",
    "reference_images",
    "generated_images",
    "delivered_images",
    "signed_urls",
    "batch_costs",
}
TWO_ROWS = a_csv(
    ["S1", "a kitchen", 2], ["S2", "a harbour", 1], header=["scene_id", "prompt", "variants"]
)
RESULT_FILES = (FOLDER.results, FOLDER.failed, FOLDER.manifest, FOLDER.contact_sheet)


class CrashesOn(ScriptedProvider):
    """A provider with a bug: one item raises what no adapter of ours may raise."""

    def __init__(self, item_key):
        super().__init__()
        self.item_key = item_key

    async def generate(self, image, references, token):
        if image.item_key == self.item_key:
            raise RuntimeError("a bug in the provider")
        return await super().generate(image, references, token)


class LosesARow(InMemoryObjectStore):
    """A seeded bug: the manifest is written without its first row."""

    def write(self, name, data, **options):
        if name.endswith("manifest.json"):
            manifest = json.loads(data)
            manifest["rows"] = manifest["rows"][1:]
            data = json.dumps(manifest).encode()
        return super().write(name, data, **options)


def test_a_clean_batch_materializes_every_asset_and_leaves_every_result_file(deployment):
    deployment.upload(TWO_ROWS)

    result = deployment.run()

    assert result.success
    assert materialized(result) == EVERY_ASSET
    assert all(deployment.has(name) for name in RESULT_FILES)
    status = deployment.status()
    assert status.state is BatchState.COMPLETED
    assert status.images.delivered == 3
    assert status.run_id == result.run_id
    assert status.finished_at is not None
    assert sorted(deployment.asked()) == ["S1/1", "S1/2", "S2/1"]


def test_a_clean_batch_spends_what_its_images_cost_and_releases_the_rest(deployment):
    deployment.upload(TWO_ROWS)

    deployment.run()

    assert deployment.spent_micros() == (0, 3 * 2_000)
    assert deployment.status().spent_usd == "0.006000"
    assert deployment.ledger.open_holds() == []


def test_both_checks_of_a_clean_batch_pass_and_carry_its_partition(deployment):
    deployment.upload(TWO_ROWS)

    evaluations = deployment.run().get_asset_check_evaluations()

    assert {(e.check_name, e.passed, e.blocking, e.partition) for e in evaluations} == {
        ("every_row_accounted", True, True, BATCH_ID),
        ("ledger_invariants", True, False, BATCH_ID),
    }


def test_artifacts_are_json_and_nothing_in_the_bucket_is_pickled(deployment):
    deployment.upload(TWO_ROWS)

    deployment.run()

    artifacts = list(deployment.store.list("artifacts/"))
    assert {f"artifacts/{BATCH_ID}/{asset}.json" for asset in EVERY_ASSET} <= {
        a.name for a in artifacts
    }
    for artifact in artifacts:
        json.loads(deployment.store.read(artifact.name))


def test_no_signed_url_reaches_dagsters_events(deployment):
    deployment.upload(TWO_ROWS)

    result = deployment.run()

    signed = deployment.store.read(FOLDER.results).decode()
    assert "X-Goog-Signature" in signed
    assert all("X-Goog-Signature" not in str(event) for event in result.all_events)


def test_cost_assets_carry_numbers_and_row_counts(deployment):
    deployment.upload(TWO_ROWS)

    [event] = deployment.run().asset_materializations_for_node("batch_costs")

    values = {name: value.value for name, value in event.metadata.items()}
    assert values["cost_micros"] == 6_000
    assert values["cost_usd"] == 0.006
    assert values["images_delivered"] == 3
    assert values["dagster/partition_row_count"] == 3
    assert {type(value) for value in values.values()} <= {int, float}


def test_a_rejected_batch_fails_with_its_problems_and_spends_nothing(deployment):
    deployment.upload(b"scene_id,prompt\nS1,\nS 2,a harbour\n")

    result = deployment.run()

    assert not result.success
    [message] = failures(result).values()
    assert message.startswith("row-invalid: line 2, prompt:")
    assert "(and 1 more)" in message
    assert "drop the file again" in message
    assert materialized(result) == set()
    problem = json.loads(deployment.store.read(FOLDER.problem))
    assert problem["status"] == 422
    assert [(e["line"], e["column"]) for e in problem["errors"]] == [(2, "prompt"), (3, "scene_id")]
    assert deployment.status().state is BatchState.REJECTED
    assert deployment.spent_micros() == (0, 0)
    assert deployment.asked() == []


def test_a_rejected_batch_is_not_retried_by_dagster(deployment):
    deployment.upload(b"scene_id,prompt\nS1,\n")

    result = deployment.run()

    [failed] = [event for event in result.all_events if event.is_step_failure]
    assert failed.step_failure_data.user_failure_data.metadata["code"].value == "row-invalid"
    assert not any(event.is_step_up_for_retry for event in result.all_events)


def test_a_batch_over_the_limit_is_refused_before_anything_is_asked_for(instance):
    deployment = FakeDeployment(instance, limit_micros=100)
    deployment.upload(TWO_ROWS)

    result = deployment.run()

    assert not result.success
    [message] = failures(result).values()
    assert message.startswith("budget-exceeded: needs ")
    assert "assetgen budget set" in message
    assert materialized(result) == {"batch_requests"}
    assert deployment.status().state is BatchState.REFUSED
    assert json.loads(deployment.store.read(FOLDER.problem))["status"] == 402
    assert deployment.store.read(FOLDER.failed).count(b"\n") == 3
    assert deployment.spent_micros() == (0, 0)
    assert deployment.asked() == []


def test_a_refused_batch_goes_through_once_its_owners_limit_is_raised(instance):
    deployment = FakeDeployment(instance, limit_micros=100)
    deployment.upload(TWO_ROWS)
    deployment.run()
    deployment.ledger.set_limit("studio", deployment.ledger.day("studio").limit * 1000, set_by="t")

    result = deployment.run()

    assert result.success
    assert deployment.status().state is BatchState.COMPLETED
    assert deployment.status().problem is None


def test_a_dry_run_is_priced_and_holds_asks_and_spends_nothing(deployment):
    deployment.upload(TWO_ROWS, dry_run=True)

    result = deployment.run()

    assert result.success
    assert materialized(result) == {"batch_requests"}
    status = deployment.status()
    assert (status.state, status.mode, status.rows) == (BatchState.PRICED, "dry_run", 2)
    assert float(status.estimate_usd) > 0
    assert status.finished_at is not None
    assert deployment.spent_micros() == (0, 0)
    assert deployment.asked() == []


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


def test_a_drop_is_moved_out_of_the_inbox_by_the_run_that_claims_it(deployment):
    drop = deployment.drop("inbox/studio/spring.csv", TWO_ROWS)

    result = deployment.run(
        tags={
            "assetgen/inbox_object": drop.name,
            "assetgen/inbox_generation": str(drop.generation),
        }
    )

    assert result.success
    assert not deployment.has(drop.name)
    assert deployment.store.read(FOLDER.request) == TWO_ROWS


def test_a_run_of_a_batch_that_nobody_dropped_says_so(deployment):
    result = deployment.run()

    assert not result.success
    [message] = failures(result).values()
    assert message.startswith("internal: no batch studio.spring.0123abcd")


def test_images_that_fail_leave_the_run_successful_and_the_batch_with_failures(instance):
    rejects = ProviderError("the prompt is refused", kind=ErrorKind.INVALID_REQUEST)
    deployment = FakeDeployment(instance, provider=ScriptedProvider({"S2/1": [rejects]}))
    deployment.upload(TWO_ROWS)

    result = deployment.run()

    assert result.success
    status = deployment.status()
    assert status.state is BatchState.COMPLETED_WITH_FAILURES
    assert (status.images.delivered, status.images.failed) == (2, 1)
    assert b"S2" in deployment.store.read(FOLDER.failed)
    assert b"S1" not in deployment.store.read(FOLDER.failed)


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


def test_the_check_fails_and_stops_the_run_when_a_row_is_missing_from_the_manifest(instance):
    deployment = FakeDeployment(instance, store=LosesARow(BUCKET))
    deployment.upload(TWO_ROWS)

    result = deployment.run()

    assert not result.success
    evaluations = {e.check_name: e for e in result.get_asset_check_evaluations()}
    assert set(evaluations) == {"every_row_accounted"}
    assert not evaluations["every_row_accounted"].passed
    assert evaluations["every_row_accounted"].metadata["missing"].value == "S1"
    assert "signed_urls" not in materialized(result)
    close_batch(BATCH_ID, RuntimeError(), run_id=result.run_id, services=deployment.services)
    assert deployment.status().state is BatchState.FAILED
    assert deployment.ledger.open_holds() == []


def test_rows_in_many_shards_and_urls_in_many_chunks_come_together_again(instance):
    urls = [f"https://93.184.216.34/{n}.png" for n in range(5)]
    deployment = FakeDeployment(
        instance,
        references={url: f"picture {n}".encode() for n, url in enumerate(urls)},
        shard_rows=2,
        reference_chunk=2,
    )
    rows = [[f"S{n}", f"scene {n}", url] for n, url in enumerate(urls)]
    deployment.upload(a_csv(*rows, header=["scene_id", "prompt", "reference_urls"]))

    result = deployment.run()

    assert result.success
    steps = [e.step_key for e in result.all_events if e.is_step_success]
    assert sum("fetch_reference_chunk[" in step for step in steps) == 3
    assert sum("generate_shard_images[" in step for step in steps) == 3
    assert sorted(deployment.fetcher.urls) == urls
    assert all(len(request.references) == 1 for request in deployment.provider.requests)
    assert deployment.status().images.delivered == 5


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


def test_a_refused_batch_fetches_no_reference(instance):
    deployment = FakeDeployment(instance, limit_micros=100)
    row = ["S1", "a kitchen", "https://93.184.216.34/a.png"]
    deployment.upload(a_csv(row, header=["scene_id", "prompt", "reference_urls"]))

    deployment.run()

    assert deployment.fetcher.urls == []
