"""Asset checks: what must be true of a batch before the next asset may use it.

A failing `every_row_accounted` is a bug of ours; ordinary failures of rows never trip it.
https://docs.dagster.io/guides/test/asset-checks
"""

import json

import dagster as dg

from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.image_request import BatchRequests
from assetgen_pipeline.stages.batch_files import read_artifact
from assetgen_pipeline.stages.services import Services

_SHOWN = 20


@dg.asset_check(asset="delivered_images", partitions_def=batches, blocking=True)
def every_row_accounted(
    context: dg.AssetCheckExecutionContext, services: dg.ResourceParam[Services]
) -> dg.AssetCheckResult:
    """Every row of the file stands once in the manifest, with one entry per image."""
    batch_id, store = context.partition_key, services.store
    batch = read_artifact(batch_id, "batch_requests", BatchRequests, store=store)
    if batch is None:
        raise AssertionError("unreachable")
    manifest = json.loads(store.read(BatchFolder(batch_id).manifest))
    asked = [(request.scene_id, request.variants) for request in batch.requests]
    told = [(row["scene_id"], len(row["images"])) for row in manifest["rows"]]
    missing = [scene for scene, count in asked if (scene, count) not in set(told)]
    return dg.AssetCheckResult(
        passed=asked == told,
        metadata={"rows": len(asked), "missing": ", ".join(missing[:_SHOWN])},
    )


@dg.asset_check(asset="batch_costs", partitions_def=batches)
def ledger_invariants(services: dg.ResourceParam[Services]) -> dg.AssetCheckResult:
    """Every invariant of the ledger holds."""
    broken = [check for check in services.ledger.verify() if check.violations]
    return dg.AssetCheckResult(
        passed=not broken,
        metadata={"broken": ", ".join(check.name for check in broken)},
    )
