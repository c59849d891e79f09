"""What metadata says of costs: read from the newest materialization of a partition."""

from dataclasses import dataclass

import dagster as dg

from assetgen_pipeline.defs.metadata import batch_cost_metadata
from assetgen_pipeline.domain.day_spend import DaySpend
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.stages.batch_files import outcome_now, read_artifact
from assetgen_pipeline.stages.reserve_budget import BudgetHold
from assetgen_pipeline.stages.services import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The whole numbers of one materialization, and when it was made."""

    numbers: dict[str, int]
    at: float

    def money(self, label: str) -> Money | None:
        """An amount in micros, `None` where there is none."""
        micros = self.numbers.get(label)
        return None if micros is None else Money(micros)


def recorded(instance: dg.DagsterInstance, asset: str, partition: str) -> Recorded | None:
    """What the newest materialization of a partition says, `None` without one."""
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[partition])
    found = instance.fetch_materializations(wanted, limit=1).records
    if not found or found[0].asset_materialization is None:
        return None
    values = {
        label: value.value for label, value in found[0].asset_materialization.metadata.items()
    }
    return Recorded(
        numbers={label: value for label, value in values.items() if isinstance(value, int)},
        at=found[0].timestamp,
    )


def record_corrections(
    instance: dg.DagsterInstance, spend: DaySpend, *, services: Services
) -> list[str]:
    """Materialize `batch_costs` anew for batches corrected since; returns their ids.

    A batch that spent on one day only is not looked at twice.
    """
    corrected = []
    for batch_id, cost in sorted(spend.batches.items()):
        said = recorded(instance, "batch_costs", batch_id)
        if said is None or said.money("cost_micros") == cost:
            continue
        outcome = outcome_now(batch_id, store=services.store, ledger=services.ledger)
        hold = read_artifact(batch_id, "budget_hold", BudgetHold, store=services.store)
        if outcome is None or hold is None or said.money("cost_micros") == outcome.spent():
            continue
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                "batch_costs",
                partition=batch_id,
                description="Corrected after the run.",
                metadata=batch_cost_metadata(outcome, hold.estimate),
            )
        )
        corrected.append(batch_id)
    return corrected
