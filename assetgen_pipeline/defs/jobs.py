"""Named jobs; runs, alerts and limits go by these names.

https://docs.dagster.io/guides/build/jobs
"""

import dagster as dg

from assetgen_pipeline.defs.assets import batch_requests, budget_hold
from assetgen_pipeline.defs.checks import batch_costs_agree, every_row_accounted, ledger_invariants
from assetgen_pipeline.defs.graph_assets import generated_images, reference_images
from assetgen_pipeline.defs.result_assets import batch_costs, delivered_images, signed_urls
from assetgen_pipeline.defs.run_log import RUN_LOG_CONFIG
from assetgen_pipeline.defs.spending_checks import canary_gate, estimate_close

BATCH_ASSETS = [
    batch_requests,
    budget_hold,
    reference_images,
    generated_images,
    delivered_images,
    signed_urls,
    batch_costs,
]
BATCH_CHECKS = [
    every_row_accounted,
    ledger_invariants,
    batch_costs_agree,
    estimate_close,
    canary_gate,
]

generate_batch = dg.define_asset_job(
    "generate_batch",
    selection=dg.AssetSelection.assets(*BATCH_ASSETS),
    description="One batch from its CSV to its results: one run per partition.",
    config=RUN_LOG_CONFIG,
)
