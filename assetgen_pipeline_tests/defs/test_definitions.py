"""The code location as a server loads it."""

import tomllib
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster_gcp.gcs import GCSResource

from assetgen_pipeline.defs import resources
from assetgen_pipeline.defs.build import build_definitions, build_resources
from assetgen_pipeline.settings import Settings
from assetgen_pipeline.wiring import bucket

ROOT = Path(__file__).parents[2]
EDGES = {
    "inbox_csv": set(),
    "batch_requests": {"inbox_csv"},
    "budget_hold": {"batch_requests"},
    "reference_images": {"batch_requests", "budget_hold"},
    "generated_images": {"batch_requests", "budget_hold", "reference_images"},
    "delivered_images": {"generated_images"},
    "signed_urls": {"delivered_images"},
    "batch_costs": {"signed_urls", "batch_requests", "budget_hold"},
    "cost_daily": set(),
}
CHECKS = {
    "delivered_images": {"every_row_accounted"},
    "batch_costs": {"ledger_invariants", "costs_agree", "estimate_close", "canary_gate"},
    "cost_daily": {"costs_agree"},
}


@pytest.fixture(scope="module")
def definitions():
    return build_definitions(Settings(home=Path("/nowhere/that/exists")))


@pytest.fixture(scope="module")
def repository(definitions):
    return definitions.get_repository_def()


def nested(resource):
    """A resource and every resource inside it."""
    yield resource
    for inner in getattr(resource, "nested_resources", {}).values():
        yield from nested(inner)


def all_resources(repository):
    return [r for top in repository.get_top_level_resources().values() for r in nested(top)]


def test_the_module_that_servers_name_holds_one_loadable_definitions_object():
    from assetgen_pipeline import definitions as module  # noqa: PLC0415 - loading is the test

    [found] = [value for value in vars(module).values() if isinstance(value, dg.Definitions)]
    dg.Definitions.validate_loadable(found)


def test_loading_opens_neither_bucket_nor_ledger_nor_signer(monkeypatch, tmp_path):
    def refuse(*_args, **_options):
        raise AssertionError("opened while loading")

    for name in ("open_object_store", "open_ledger", "open_services"):
        monkeypatch.setattr(resources, name, refuse)
    monkeypatch.setattr(bucket, "local_bucket", refuse)
    home = tmp_path / "home"

    loaded = build_definitions(Settings(home=home))
    dg.Definitions.validate_loadable(loaded)

    assert not home.exists()


def test_loading_a_cloud_deployment_needs_no_credentials(tmp_path):
    settings = Settings(
        home=tmp_path, bucket="acme-images", ledger_url="postgresql+psycopg://me:secret@db/ledger"
    )

    dg.Definitions.validate_loadable(build_definitions(settings))

    assert "secret" not in str(build_resources(settings))


def test_the_assets_and_their_edges_are_these(repository):
    graph = repository.asset_graph

    found = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }

    assert found == EDGES


def test_the_checks_are_these(repository):
    found = {}
    for key in repository.asset_graph.asset_check_keys:
        found.setdefault(key.asset_key.to_user_string(), set()).add(key.name)

    assert found == CHECKS


def test_the_jobs_sensors_and_schedules_are_these(repository):
    assert {job.name for job in repository.get_all_jobs()} == {
        "__ASSET_JOB",
        "generate_batch",
        "refresh_urls",
        "publish_costs",
    }
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "inbox_sensor",
        "expiring_urls_sensor",
        "waiting_sensor",
        "dead_run_sensor",
        "failed_run_sensor",
        "cancelled_run_sensor",
        "deployment_alert_sensor",
        "ledger_alert_sensor",
    }
    assert {schedule.name for schedule in repository.schedule_defs} == {
        "heartbeat",
        "publish_costs_schedule",
    }


def test_every_sensor_and_schedule_runs_without_anybody_switching_it_on(repository):
    assert {sensor.default_status for sensor in repository.sensor_defs} == {
        dg.DefaultSensorStatus.RUNNING
    }
    assert {schedule.default_status for schedule in repository.schedule_defs} == {
        dg.DefaultScheduleStatus.RUNNING
    }


@pytest.mark.parametrize("asset", EDGES)
def test_every_asset_says_what_it_is_who_owns_it_and_where_it_belongs(repository, asset):
    node = repository.asset_graph.get(dg.AssetKey(asset))

    assert node.description
    assert node.owners == ["team:data-platform"]
    assert node.kinds
    assert node.group_name != "default"


@pytest.mark.parametrize("asset", EDGES)
def test_every_asset_is_partitioned_by_batch_or_by_day_but_for_the_source(repository, asset):
    partitions = repository.asset_graph.get(dg.AssetKey(asset)).partitions_def

    if asset == "cost_daily":
        assert isinstance(partitions, dg.DailyPartitionsDefinition)
    else:
        assert (partitions.name if partitions else None) == (
            None if asset == "inbox_csv" else "batches"
        )


def test_the_job_runs_every_asset_and_check(repository):
    job = repository.get_job("generate_batch")

    keys = {key.to_user_string() for key in job.asset_layer.selected_asset_keys}
    assert keys == set(EDGES) - {"inbox_csv", "cost_daily"}
    assert len(job.asset_layer.asset_graph.asset_check_keys) == 5


def test_the_fan_out_ops_stand_in_their_pools(repository):
    job = repository.get_job("generate_batch")

    pools = {node.name: node.pools for node in job.all_node_defs if node.pools}
    assert pools["fetch_reference_chunk"] == {"reference_fetch"}
    assert pools["generate_shard_images"] == {"generation"}


def test_no_io_manager_pickles(repository):
    managers = [r for r in all_resources(repository) if isinstance(r, dg.IOManagerDefinition)]

    assert managers
    assert [
        type(r).__name__ for r in all_resources(repository) if "ickle" in type(r).__name__
    ] == []
    assert set(repository.get_top_level_resources()) == {
        "object_store",
        "ledger",
        "services",
        "deployment",
        "alerting",
        "io_manager",
        "in_memory_io_manager",
    }
    io_manager = repository.get_top_level_resources()["io_manager"]
    assert io_manager.configurable_resource_cls.__name__ == "ArtifactIOManager"


def test_the_cloud_client_is_dagsters_own_gcs_resource_inside_the_object_store(repository):
    store = repository.get_top_level_resources()["object_store"]

    assert isinstance(store.nested_resources["gcs"], GCSResource)


def test_workspace_and_project_files_name_the_module_that_exists():
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]

    [location] = workspace["load_from"]
    assert location["python_module"]["module_name"] == "assetgen_pipeline.definitions"
    assert location["python_module"]["location_name"] == "assetgen_pipeline"
    assert project["dagster"]["module_name"] == "assetgen_pipeline.definitions"
    assert project["dagster"]["code_location_name"] == "assetgen_pipeline"
    assert (
        project["dg"]["project"]["code_location_target_module"] == "assetgen_pipeline.definitions"
    )


def test_the_instance_file_is_one_that_dagster_accepts(tmp_path):
    (tmp_path / "dagster.yaml").write_bytes((ROOT / "dagster.yaml").read_bytes())

    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert not instance.telemetry_enabled
        assert instance.run_monitoring_enabled
        assert instance.global_op_concurrency_default_limit == 1
        # Our own sensor runs what died; two mechanisms would run it twice.
        assert not instance.run_retries_enabled
        assert not instance.run_retries_retry_on_asset_or_op_failure
