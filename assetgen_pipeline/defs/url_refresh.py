"""The job `refresh_urls`: signs the links of many published batches anew in one run.

Its runs have no owner tag, so a refresh never waits behind a batch. Each batch refreshed is
a materialization of `signed_urls` for its partition, as if its own run had signed again.
https://docs.dagster.io/guides/build/jobs/op-jobs
"""

from collections import Counter

import dagster as dg
from pydantic import Field

from assetgen_pipeline.defs.failures import domain_errors_as_failures
from assetgen_pipeline.defs.metadata import refresh_metadata
from assetgen_pipeline.defs.run_log import RUN_LOG_CONFIG
from assetgen_pipeline.domain.delivery import RefreshCause
from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.stages.refresh_published import Refreshed, refresh_published
from assetgen_pipeline.stages.services import Services

REFRESH_JOB = "refresh_urls"
REFRESH_OP = "refresh_links"
IN_MEMORY = "in_memory_io_manager"


class RefreshConfig(dg.Config):
    """Which batches, and why."""

    batches: list[str] = Field(description="Ids of published batches.")
    cause: str = Field("operator", description="`operator` always signs anew; `expiring` if due.")


def refresh_run_config(batches: list[str], cause: RefreshCause) -> dg.RunConfig:
    """The config of one run; a run that is given any has no default of the job's."""
    config = RefreshConfig(batches=batches, cause=cause.value)
    return dg.RunConfig(ops={REFRESH_OP: config}, loggers=RUN_LOG_CONFIG["loggers"])


class RefreshReport(Value):
    """What became of each batch's links."""

    batches: tuple[Refreshed, ...]


@dg.op(name=REFRESH_OP, out=dg.Out(io_manager_key=IN_MEMORY))
async def refresh_links(
    context: dg.OpExecutionContext, config: RefreshConfig, services: dg.ResourceParam[Services]
) -> RefreshReport:
    """Refresh the batches named, a few at once; a batch that fails holds up no other."""
    with domain_errors_as_failures():
        refreshed = await refresh_published(
            config.batches, cause=RefreshCause(config.cause), services=services
        )
    for one in refreshed:
        if one.result in {"refreshed", "lapsed"}:
            context.log_event(
                dg.AssetMaterialization(
                    "signed_urls", partition=one.batch_id, metadata=refresh_metadata(one)
                )
            )
    counts = Counter(one.result for one in refreshed)
    context.log.info(f"links of {len(refreshed)} batches: {dict(counts)}")
    return RefreshReport(batches=tuple(refreshed))


@dg.op(out=dg.Out(dg.Nothing))
def require_all(report: RefreshReport) -> None:
    """Fail the run where a batch's links were not refreshed; it stays due."""
    failed = [one for one in report.batches if one.result == "failed"]
    if failed:
        codes = ", ".join(sorted({one.code for one in failed}))
        raise dg.Failure(
            description=f"links of {len(failed)} batches were not refreshed: {codes}",
            metadata={"batches": dg.MetadataValue.json([one.batch_id for one in failed])},
        )


@dg.job(
    name=REFRESH_JOB,
    description="Signs the links of published batches anew, many batches a run.",
    executor_def=dg.in_process_executor,
)
def refresh_urls() -> None:
    """Refresh, then fail if one did."""
    require_all(refresh_links())
