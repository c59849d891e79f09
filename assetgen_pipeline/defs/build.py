"""Assembles the definitions; tests pass resources of their own."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster_gcp.gcs import GCSResource

from assetgen_pipeline import wiring
from assetgen_pipeline.defs.assets import inbox_csv
from assetgen_pipeline.defs.io_managers import ArtifactIOManager
from assetgen_pipeline.defs.jobs import BATCH_ASSETS, BATCH_CHECKS, generate_batch
from assetgen_pipeline.defs.resources import (
    DeploymentResource,
    LedgerResource,
    ObjectStoreResource,
    ServicesResource,
)
from assetgen_pipeline.defs.sensors import SENSORS
from assetgen_pipeline.settings import Settings


def build_resources(settings: Settings) -> dict[str, Any]:
    """The resources of a deployment; nothing is opened before a run or tick needs it."""
    store = ObjectStoreResource(
        gcs=GCSResource(), bucket=settings.bucket, where=wiring.bucket_kind(settings)
    )
    engine = wiring.ledger_url(settings).partition(":")[0].partition("+")[0]
    ledger = LedgerResource(engine=engine)
    return {
        "object_store": store,
        "ledger": ledger,
        "services": ServicesResource(object_store=store, ledger=ledger),
        "deployment": DeploymentResource(provider=settings.provider),
        "io_manager": ArtifactIOManager(object_store=store),
    }


def build_definitions(
    settings: Settings, *, resources: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """All definitions of the code location."""
    return dg.Definitions(
        assets=[inbox_csv, *BATCH_ASSETS],
        asset_checks=BATCH_CHECKS,
        jobs=[generate_batch],
        sensors=SENSORS,
        resources=dict(resources) if resources is not None else build_resources(settings),
        executor=dg.in_process_executor,
    )
