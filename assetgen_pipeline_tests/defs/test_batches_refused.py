"""Batches that end before an image is asked for: rejected, refused, priced, not found."""

import json

import dagster as dg

from assetgen_pipeline.domain.batch_file import CsvLimits
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline_tests.builders import BATCH_ID, a_csv
from assetgen_pipeline_tests.fake_deployment import TWO_ROWS, FakeDeployment, failures, materialized

FOLDER = BatchFolder(BATCH_ID)


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


def test_a_drop_that_is_too_large_is_rejected_before_it_is_claimed(deployment):
    deployment.choose(csv_limits=CsvLimits(max_bytes=10))
    info = deployment.drop("inbox/studio/spring.csv", TWO_ROWS)
    drop = {"inbox_object": info.name, "inbox_generation": str(info.generation)}

    batch_id = deployment.batch_of(info)
    tags = {f"assetgen/{name}": value for name, value in drop.items()}
    result = deployment.run(batch_id=batch_id, tags=tags)

    assert not result.success
    assert deployment.status(batch_id).problem["code"] == "csv-too-large"
    assert deployment.status(batch_id).state is BatchState.REJECTED
    assert deployment.store.stat(info.name) == info


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
    counts = status.images
    assert (counts.requested, counts.not_attempted) == (3, 3)
    assert (status.reserved_usd, status.spent_usd) == ("0.000000", "0.000000")
    assert float(status.estimate_usd) > 0
    assert status.finished_at is not None
    assert deployment.spent_micros() == (0, 0)
    assert deployment.asked() == []
    [seen] = [
        event.asset_observation_data.asset_observation
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.ASSET_OBSERVATION
    ]
    assert seen.metadata["headroom_usd"].value == 10.0
    assert seen.metadata["limit_usd"].value == 10.0


def test_a_run_of_a_batch_that_nobody_dropped_says_so(deployment):
    result = deployment.run()

    assert not result.success
    [message] = failures(result).values()
    assert message.startswith("batch-not-found: no batch studio.spring.0123abcd")


def test_a_refused_batch_fetches_no_reference(instance):
    deployment = FakeDeployment(instance, limit_micros=100)
    row = ["S1", "a kitchen", "https://93.184.216.34/a.png"]
    deployment.upload(a_csv(row, header=["scene_id", "prompt", "reference_urls"]))

    deployment.run()

    assert deployment.fetcher.urls == []
