"""Assembles the definitions; tests pass resources of their own."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from assetgen_pipeline.defs.assets import inbox_csv
from assetgen_pipeline.defs.cost_daily import cost_daily_definitions
from assetgen_pipeline.defs.gcs_resource import GCSResource
from assetgen_pipeline.defs.io_managers import ArtifactIOManager
from assetgen_pipeline.defs.jobs import BATCH_ASSETS, BATCH_CHECKS, generate_batch
from assetgen_pipeline.defs.resources import (
    AlertingResource,
    DeploymentResource,
    LedgerResource,
    ObjectStoreResource,
    ServicesResource,
)
from assetgen_pipeline.defs.run_log import CONSOLE, console_logger
from assetgen_pipeline.defs.schedules import all_schedules
from assetgen_pipeline.defs.sensors import SENSORS
from assetgen_pipeline.defs.slot_queue import one_process
from assetgen_pipeline.defs.url_refresh import IN_MEMORY, refresh_urls
from assetgen_pipeline.domain.bucket_layout import COSTS
from assetgen_pipeline.settings import Settings
from assetgen_pipeline.wiring.bucket import bucket_kind
from assetgen_pipeline.wiring.ledger import ledger_url
from assetgen_pipeline.wiring.notifier import alert_ways

_FOLDERS = {dg.AssetKey("batch_costs"): COSTS}


def build_resources(settings: Settings) -> dict[str, Any]:
    """The resources of a deployment; nothing is opened before a run or tick needs it."""
    store = ObjectStoreResource(
        gcs=GCSResource(), bucket=settings.bucket, where=bucket_kind(settings)
    )
    engine = ledger_url(settings).partition(":")[0].partition("+")[0]
    ledger = LedgerResource(engine=engine)
    return {
        "object_store": store,
        "ledger": ledger,
        "services": ServicesResource(object_store=store, ledger=ledger),
        "deployment": DeploymentResource(provider=settings.provider),
        "alerting": AlertingResource(ways=alert_ways(settings)),
        "io_manager": ArtifactIOManager(object_store=store),
    }


def build_definitions(
    settings: Settings, *, resources: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """All definitions of the code location."""
    resources = resources if resources is not None else build_resources(settings)
    bucket = f"gs://{settings.bucket}/"
    batch_definitions = dg.Definitions(
        assets=[inbox_csv, *(_located(asset, bucket) for asset in BATCH_ASSETS)],
        asset_checks=BATCH_CHECKS,
        jobs=[generate_batch, refresh_urls],
        sensors=SENSORS,
        schedules=all_schedules(settings.budget_time_zone),
        resources={**resources, IN_MEMORY: dg.mem_io_manager},
        executor=one_process,
        loggers={CONSOLE: console_logger},
    )
    return dg.Definitions.merge(
        batch_definitions,
        cost_daily_definitions(settings.budget_time_zone, uri=f"{bucket}cost_daily/"),
    )


def _located(asset: dg.AssetsDefinition, bucket: str) -> dg.AssetsDefinition:
    """The asset, with the folder of the bucket that it fills where it fills one."""
    return asset.map_asset_specs(
        lambda spec: (
            spec.merge_attributes(metadata={"dagster/uri": bucket + _FOLDERS[spec.key]})
            if spec.key in _FOLDERS
            else spec
        )
    )
