"""Artifacts: typed JSON between assets, where the contract says they stand."""

import json

import dagster as dg
import pytest
from pydantic import ValidationError

from assetgen_pipeline.defs.io_managers import ArtifactIOManager
from assetgen_pipeline.domain.errors import ObjectMissing
from assetgen_pipeline.domain.image_request import BatchRequests
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, RUN_ID, a_batch

NAME = f"artifacts/{BATCH_ID}/batch_requests.json"
KEY = dg.AssetKey("batch_requests")
TYPE = dg.PythonObjectDagsterType(BatchRequests)


@pytest.fixture
def store():
    return InMemoryObjectStore(BUCKET)


@pytest.fixture
def manager(store):
    return ArtifactIOManager(object_store=store)


def an_output(**changes):
    return dg.build_output_context(
        **{"asset_key": KEY, "partition_key": BATCH_ID, "dagster_type": TYPE, **changes}
    )


def an_input(upstream):
    return dg.build_input_context(
        upstream_output=upstream, asset_key=KEY, partition_key=BATCH_ID, dagster_type=TYPE
    )


def test_an_assets_artifact_comes_back_equal_and_of_its_type(manager):
    batch = a_batch()
    output = an_output()

    manager.handle_output(output, batch)

    assert manager.load_input(an_input(output)) == batch


def test_an_assets_artifact_is_json_under_its_batch(manager, store):
    manager.handle_output(an_output(), a_batch())

    assert [found.name for found in store.list("")] == [NAME]
    assert store.stat(NAME).content_type == "application/json"
    assert json.loads(store.read(NAME))["batch_id"] == BATCH_ID


def test_the_newest_runs_artifact_stands(manager):
    output = an_output()
    manager.handle_output(output, a_batch())
    second = a_batch(received_at="2026-04-01T00:00:00+00:00")

    manager.handle_output(output, second)

    assert manager.load_input(an_input(output)) == second


def test_an_inner_ops_output_stands_under_its_run_step_and_mapping_key(manager, store):
    output = an_output(
        asset_key=None,
        run_id=RUN_ID,
        step_key="reference_images.plan_references",
        name="result",
        mapping_key="7",
    )

    manager.handle_output(output, a_batch())

    assert [found.name for found in store.list("")] == [
        f"artifacts/{BATCH_ID}/{RUN_ID}/reference_images.plan_references[7].json"
    ]


def test_an_artifact_that_is_missing_is_an_error_of_storage(manager):
    with pytest.raises(ObjectMissing):
        manager.load_input(an_input(an_output()))


def test_an_artifact_of_another_form_is_refused(manager, store):
    store.write(NAME, b'{"batch_id": 7}', content_type="application/json")

    with pytest.raises(ValidationError):
        manager.load_input(an_input(an_output()))
