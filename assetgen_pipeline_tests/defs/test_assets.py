"""The whole graph on fakes: what a batch that runs to its end leaves behind."""

import csv
import io
import json
from datetime import timedelta
from pathlib import Path

import pytest

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.domain.status import BatchState, BatchStatus
from assetgen_pipeline.stages.close_batch import close_batch
from assetgen_pipeline.stages.progress import EVERY_S
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, a_csv
from assetgen_pipeline_tests.fake_deployment import TWO_ROWS, FakeDeployment, materialized

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
SAMPLES = Path(__file__).parents[2] / "assetgen_pipeline" / "data" / "samples"
RESULT_FILES = (FOLDER.results, FOLDER.failed, FOLDER.manifest, FOLDER.contact_sheet)


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


def test_the_checks_of_a_clean_batch_pass_and_carry_its_partition(deployment):
    deployment.upload(TWO_ROWS)

    evaluations = deployment.run().get_asset_check_evaluations()

    assert {(e.check_name, e.passed, e.blocking, e.partition) for e in evaluations} == {
        ("every_row_accounted", True, True, BATCH_ID),
        ("ledger_invariants", True, False, BATCH_ID),
        ("estimate_close", True, False, BATCH_ID),
        ("canary_gate", True, False, BATCH_ID),
        ("costs_agree", True, True, BATCH_ID),
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


def test_a_drop_is_moved_out_of_the_inbox_by_the_run_that_claims_it(deployment):
    drop = deployment.drop("inbox/studio/spring.csv", TWO_ROWS)

    batch_id = deployment.batch_of(drop)
    result = deployment.run(
        batch_id=batch_id,
        tags={
            "assetgen/inbox_object": drop.name,
            "assetgen/inbox_generation": str(drop.generation),
        },
    )

    assert result.success
    assert not deployment.has(drop.name)
    assert deployment.store.read(BatchFolder(batch_id).request) == TWO_ROWS


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


@pytest.mark.parametrize(
    ("name", "passed_through"),
    [
        ("predecessor-sheet.csv", {"style_kit_id": "SK-warm", "veo_model": "veo3_fast"}),
        ("predecessor-test.csv", {"status_img": "queued", "ref_pack_id": "REF-001"}),
    ],
)
def test_the_predecessors_sheets_become_images_as_they_are(deployment, name, passed_through):
    deployment.upload((SAMPLES / name).read_bytes())

    assert deployment.run().success

    text = deployment.store.read(FOLDER.results).decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert deployment.status().images.delivered == 6
    assert {row["status"] for row in rows} == {"delivered"}
    assert all(row["references_unfetched"] for row in rows)
    assert rows[0].items() >= passed_through.items()


class SeesTheState(ScriptedProvider):
    """A provider that notes what the batch's status says while it works."""

    def __init__(self):
        super().__init__()
        self.seen = []
        self.look = None

    async def generate(self, image, references, token):
        self.seen.append(self.look())
        return await super().generate(image, references, token)


def test_a_batch_is_running_before_its_first_image_is_there(instance):
    provider = SeesTheState()
    deployment = FakeDeployment(instance, provider=provider)
    provider.look = lambda: deployment.status().state
    deployment.upload(a_csv(["S1", "a kitchen"]))

    assert deployment.run().success

    assert provider.seen == [BatchState.RUNNING]


class KeepsEveryStatus(InMemoryObjectStore):
    """Remembers what every `status.json` of the batch said, in order."""

    told = ()

    def write(self, name, data, **options):
        if name == FOLDER.status:
            self.told += (BatchStatus.model_validate_json(data),)
        return super().write(name, data, **options)


class TakesItsTime(ScriptedProvider):
    """A provider so slow that every report is due."""

    clock = None

    async def generate(self, image, references, token):
        self.clock.advance(timedelta(seconds=EVERY_S))
        return await super().generate(image, references, token)


def test_no_status_counts_an_image_as_failed_that_is_tried_again(instance):
    lost = ProviderError("no answer", kind=ErrorKind.UNKNOWN_OUTCOME)
    provider, store = TakesItsTime({"S1/1": [lost, lost]}), KeepsEveryStatus(BUCKET)
    deployment = FakeDeployment(instance, provider=provider, store=store, generation_concurrency=1)
    provider.clock = deployment.clock
    deployment.upload(TWO_ROWS)

    assert deployment.run().success

    assert deployment.asked() == ["S1/1", "S1/2", "S2/1", "S1/1"]
    at_work = [told.images for told in store.told if told.state is BatchState.RUNNING]
    failed_and_delivered = [(images.failed, images.delivered) for images in at_work]
    assert (0, 2) in failed_and_delivered
    assert {failed for failed, _ in failed_and_delivered[:-1]} == {0}
    assert deployment.status().images.failed == 1


def test_a_batch_with_its_money_reserved_says_how_many_images_were_asked_for(instance):
    store = KeepsEveryStatus(BUCKET)
    deployment = FakeDeployment(instance, store=store)
    deployment.upload(TWO_ROWS)

    deployment.run()

    [reserved] = [told for told in store.told if told.state is BatchState.RESERVED]
    assert (reserved.rows, reserved.images.requested, reserved.images.not_attempted) == (2, 3, 3)
