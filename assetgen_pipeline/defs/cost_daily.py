"""`cost_daily`: a budget day in sums, published while it lasts and whenever it is corrected.

https://docs.dagster.io/guides/build/partitions-and-backfills
"""

from datetime import date, timedelta

import dagster as dg

from assetgen_pipeline.defs.assets import OWNERS
from assetgen_pipeline.defs.metadata import day_cost_metadata, table_schema
from assetgen_pipeline.defs.recorded_costs import record_corrections, recorded
from assetgen_pipeline.defs.run_log import RUN_LOG_CONFIG
from assetgen_pipeline.domain.day_spend import DAY_COLUMNS
from assetgen_pipeline.stages.report_costs import day_disagreements, report_day
from assetgen_pipeline.stages.services import Services

FIRST_DAY = "2026-01-01"
NAME = "cost_daily"
JOB = "publish_costs"
_SHOWN = 20


def cost_daily_definitions(time_zone: str, *, uri: str) -> dg.Definitions:
    """`cost_daily`, its check and its job; `schedules` keeps it fresh."""
    # The present day is a partition too.
    days = dg.DailyPartitionsDefinition(start_date=FIRST_DAY, timezone=time_zone, end_offset=1)
    asset = _asset(days, time_zone, uri)
    job = dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(asset),
        description="A budget day's sums from the ledger: one run per day published.",
        config=RUN_LOG_CONFIG,
    )
    return dg.Definitions(assets=[asset], asset_checks=[_check(days)], jobs=[job])


def _asset(days: dg.DailyPartitionsDefinition, time_zone: str, uri: str) -> dg.AssetsDefinition:
    @dg.asset(
        name=NAME,
        partitions_def=days,
        group_name="costs",
        kinds={"parquet", "gcs"},
        owners=OWNERS,
        metadata={"dagster/uri": uri, "dagster/column_schema": table_schema(DAY_COLUMNS)},
        freshness_policy=dg.FreshnessPolicy.cron(
            deadline_cron="0 3 * * *", lower_bound_delta=timedelta(hours=3), timezone=time_zone
        ),
        description=(
            "What each budget day cost by owner, provider and model, and what was refused: from"
            " the ledger, one Parquet file per day. Files of batches that lag are mended first."
        ),
    )
    def cost_daily(
        context: dg.AssetExecutionContext, services: dg.ResourceParam[Services]
    ) -> dg.MaterializeResult[None]:
        spend = report_day(date.fromisoformat(context.partition_key), services=services)
        corrected = record_corrections(context.instance, spend, services=services)
        if corrected:
            context.log.info("corrected the metadata of %s", ", ".join(corrected))
        return dg.MaterializeResult(metadata=day_cost_metadata(spend))

    return cost_daily


def _check(days: dg.DailyPartitionsDefinition) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=NAME, name="costs_agree", partitions_def=days, blocking=True)
    def day_costs_agree(
        context: dg.AssetCheckExecutionContext, services: dg.ResourceParam[Services]
    ) -> dg.AssetCheckResult:
        """Ledger, Parquet and metadata agree on the day and on each of its batches, to the micro.

        Batches that still hold money are left out.
        """
        day, instance = context.partition_key, context.instance
        said = recorded(instance, NAME, day)
        found = day_disagreements(
            date.fromisoformat(day),
            said.money("cost_micros") if said else None,
            said.numbers.get("ledger_entries", 0) if said else 0,
            services=services,
        )
        return dg.AssetCheckResult(
            passed=not found,
            metadata={"disagreements": len(found), "found": "; ".join(found[:_SHOWN])},
        )

    return day_costs_agree
