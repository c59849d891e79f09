"""Checks that warn about money without stopping a batch: prices that moved, a canary that fails.

https://docs.dagster.io/guides/test/asset-checks
"""

import dagster as dg

from assetgen_pipeline.defs.metadata import dollars
from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.domain.errors import AssetgenError
from assetgen_pipeline.domain.estimate import compare_estimate
from assetgen_pipeline.domain.lanes import SLOW, TYPICAL, LaneFigures
from assetgen_pipeline.stages.batch_files import outcome_now
from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.stages.rollout import judge_rollout, read_rollout
from assetgen_pipeline.stages.services import Services


@dg.asset_check(asset="batch_costs", partitions_def=batches)
def estimate_close(
    context: dg.AssetCheckExecutionContext,
    services: dg.ResourceParam[Services],
    deployment: dg.ResourceParam[Deployment],
) -> dg.AssetCheckResult:
    """What the delivered images cost is within a fifth of what the catalogue lists for them."""
    outcome = outcome_now(context.partition_key, store=services.store, ledger=services.ledger)
    if outcome is None:
        raise AssertionError("unreachable")
    try:
        found = compare_estimate(outcome, deployment.catalogue)
    except AssetgenError as error:
        return _warning(passed=False, metadata={"found": f"{error.code}: {error}"})
    return _warning(
        passed=found.is_close,
        metadata={
            "expected_usd": dollars(found.expected),
            "expected_micros": found.expected.micros,
            "actual_usd": dollars(found.actual),
            "actual_micros": found.actual.micros,
            "parted_percent": round(float(found.parted * 100), 2),
        },
    )


@dg.asset_check(asset="batch_costs", partitions_def=batches)
def canary_gate(services: dg.ResourceParam[Services]) -> dg.AssetCheckResult:
    """The candidate's figures carry a promotion: `assetgen rollout set` asks the same."""
    try:
        stored = read_rollout(services.store)
    except AssetgenError as error:
        return _warning(passed=False, metadata={"against": f"{error.code}: {error}"})
    verdict = judge_rollout(stored, ledger=services.ledger)
    if verdict is None or not stored.rollout.is_running:
        return _warning(passed=True, metadata={"rollout": "none is running"})
    return _warning(
        passed=verdict.carries,
        metadata={
            "rollout": f"{verdict.candidate.provider}/{verdict.candidate.model}"
            f" at {stored.rollout.percent} %",
            "against": "; ".join(verdict.against),
            **_figures("stable", verdict.stable),
            **_figures("candidate", verdict.candidate),
        },
    )


def _figures(name: str, lane: LaneFigures) -> dict[str, int | float]:
    latencies = {percent: lane.latency_ms(percent) for percent in (TYPICAL, SLOW)}
    return {
        f"{name}_images": lane.images,
        f"{name}_failure_rate": round(lane.failure_rate, 4),
        f"{name}_cost_per_image_usd": dollars(lane.cost_per_image),
        **{f"{name}_latency_p{p}_ms": ms for p, ms in latencies.items() if ms is not None},
    }


def _warning(*, passed: bool, metadata: dict[str, str | int | float]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=passed, severity=dg.AssetCheckSeverity.WARN, metadata=metadata
    )
