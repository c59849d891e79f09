"""deploy/dagster.yaml: a batch on PostgreSQL storage, and the same rules as on one machine."""

from pathlib import Path

import dagster as dg
import pytest
import yaml

from assetgen_pipeline.adapters.local_bucket import hold_local_bucket
from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline_tests.builders import BATCH_ID, a_csv
from assetgen_pipeline_tests.fake_deployment import FakeDeployment, materialized
from assetgen_pipeline_tests.postgres_cluster import require_cluster

ROOT = Path(__file__).parents[2]
PRODUCTION = ROOT / "deploy" / "dagster.yaml"


@pytest.fixture
def instance(tmp_path, monkeypatch):
    """The production instance, on a private cluster and a local bucket."""
    cluster = require_cluster()
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_bytes(PRODUCTION.read_bytes())
    for name, value in {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(cluster.port),
        "PGUSER": cluster.user,
        "PGPASSWORD": "unused",
        "PGDATABASE": cluster.create_database(),
        "ASSETGEN_LOG_BUCKET": "logs",
    }.items():
        monkeypatch.setenv(name, value)
    with hold_local_bucket(tmp_path / "home") as endpoint:
        # A bucket is a folder there.
        (tmp_path / "home" / "bucket" / "logs").mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
        with dg.DagsterInstance.from_config(str(home)) as loaded:
            yield loaded


@pytest.mark.postgres
def test_a_batch_runs_on_the_production_instance(instance):
    deployment = FakeDeployment(instance)
    deployment.upload(a_csv(["S1", "a kitchen"]))

    result = deployment.run()

    assert result.success
    assert deployment.status().state is BatchState.COMPLETED
    assert "batch_costs" in materialized(result)
    [run] = instance.get_runs()
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert instance.get_dynamic_partitions(batches.name) == [BATCH_ID]


@pytest.mark.postgres
def test_pools_have_their_limits_in_the_production_database(instance):
    instance.event_log_storage.set_concurrency_slots("reference_fetch", 1)

    assert instance.event_log_storage.get_concurrency_info("reference_fetch").slot_count == 1


def test_production_follows_the_rules_of_the_local_instance():
    local = yaml.safe_load((ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    production = yaml.safe_load(PRODUCTION.read_text(encoding="utf-8"))

    assert {"storage", "compute_logs"} == production.keys() - local.keys()
    assert {key: production[key] for key in local} == local
