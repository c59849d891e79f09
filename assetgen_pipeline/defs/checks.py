"""Asset checks: what must be true of a batch before the next asset may use it.

A failing `every_row_accounted` is a bug of ours; ordinary failures of rows never trip it.
https://docs.dagster.io/guides/test/asset-checks
"""

import json

import dagster as dg

from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.defs.recorded_costs import recorded
from assetgen_pipeline.defs.recovery import check_holds
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.image_request import BatchRequests
from assetgen_pipeline.stages.batch_files import read_artifact
from assetgen_pipeline.stages.ledger_completeness import check_batch_completeness
from assetgen_pipeline.stages.report_costs import batch_disagreements
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
    known = set(told)
    missing = [scene for scene, count in asked if (scene, count) not in known]
    return dg.AssetCheckResult(
        passed=asked == told,
        metadata={"rows": len(asked), "missing": ", ".join(missing[:_SHOWN])},
    )


@dg.asset_check(asset="batch_costs", partitions_def=batches)
def ledger_invariants(
    context: dg.AssetCheckExecutionContext, services: dg.ResourceParam[Services]
) -> dg.AssetCheckResult:
    """Every invariant of the ledger holds; I8 for this batch's images."""
    ledger = services.ledger
    checks = [
        *ledger.verify(),
        check_batch_completeness(context.partition_key, store=services.store, ledger=ledger),
        check_holds(context.instance, ledger.open_holds(), now=services.clock.now()),
    ]
    broken = [check for check in checks if check.violations]
    found = [text for check in broken for text in check.violations]
    return dg.AssetCheckResult(
        passed=not broken,
        metadata={
            "checked": ", ".join(check.name for check in checks),
            "broken": ", ".join(check.name for check in broken),
            "found": "; ".join(found[:_SHOWN]),
        },
    )


@dg.asset_check(asset="batch_costs", name="costs_agree", partitions_def=batches, blocking=True)
def batch_costs_agree(
    context: dg.AssetCheckExecutionContext, services: dg.ResourceParam[Services]
) -> dg.AssetCheckResult:
    """Ledger, Parquet and metadata agree on what the batch cost, day by day, to the micro."""
    batch_id = context.partition_key
    said = recorded(context.instance, "batch_costs", batch_id)
    shown = said.money("cost_micros") if said else None
    found = batch_disagreements(batch_id, shown, services=services)
    return dg.AssetCheckResult(
        passed=not found,
        metadata={"disagreements": len(found), "found": "; ".join(found[:_SHOWN])},
    )
