"""Cost facts as Parquet in the bucket: a file per batch and budget day, and one of daily sums.

What reads and writes such files is loaded with the first of them: pyarrow takes 45 MB, and
a run has no use for it until its images are made.
"""

from collections.abc import Mapping, Sequence
from datetime import date

from assetgen_pipeline.adapters.object_readers import read_each
from assetgen_pipeline.domain.bucket_layout import COSTS, BatchFolder, day_costs_name
from assetgen_pipeline.domain.cost_facts import FACT_COLUMNS, Column, Fact
from assetgen_pipeline.domain.day_spend import DAY_COLUMNS, DaySpend, day_rows
from assetgen_pipeline.domain.errors import ObjectMissing
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.ports.costs import CostFacts
from assetgen_pipeline.ports.object_store import ObjectStore

_PARQUET = "application/vnd.apache.parquet"


class ParquetCostFacts(CostFacts):
    """Facts under `costs/dt=…/`, daily sums under `cost_daily/dt=…/`."""

    def __init__(self, store: ObjectStore) -> None:
        """Keep the facts in this bucket."""
        self._store = store

    def publish(self, batch_id: str, day: date, facts: Sequence[Mapping[str, object]]) -> bool:
        """Make one batch's file of one budget day hold these facts; none means no file."""
        name = BatchFolder(batch_id).costs(day.isoformat())
        if not facts:
            return self._store.delete(name)
        return self._put(name, facts, FACT_COLUMNS)

    def batch_cost(self, batch_id: str, day: date) -> Money | None:
        """What a batch's file of one day sums to, `None` where there is no file."""
        return self._sum(BatchFolder(batch_id).costs(day.isoformat()), "cost_micros")

    def batch_costs(self, day: date) -> dict[str, Money]:
        """What every batch's file of one day sums to."""
        prefix = f"{COSTS}dt={day.isoformat()}/"
        files = read_each(self._store, (found.name for found in self._store.list(prefix)))
        sums = {name: _sum_of(data, "cost_micros") for name, data in files}
        return {
            name.removeprefix(prefix).removesuffix(".parquet"): cost
            for name, cost in sums.items()
            if cost is not None
        }

    def publish_day(self, spend: DaySpend) -> bool:
        """Make the daily file hold the sums of one budget day; whether anything was written."""
        name = day_costs_name(spend.budget_date.isoformat())
        return self._put(name, day_rows(spend), DAY_COLUMNS)

    def day_cost(self, day: date) -> Money | None:
        """What the daily file's settled amounts sum to, `None` where there is no file."""
        return self._sum(day_costs_name(day.isoformat()), "settled_micros")

    def _put(self, name: str, rows: Sequence[Fact], columns: Sequence[Column]) -> bool:
        from assetgen_pipeline.adapters.fact_files import file_of  # noqa: PLC0415 - see above

        data = file_of(rows, columns, unlike=self._read(name))
        if data is None:
            return False
        self._store.write(name, data, content_type=_PARQUET)
        return True

    def _sum(self, name: str, column: str) -> Money | None:
        stored = self._read(name)
        return None if stored is None else _sum_of(stored, column)

    def _read(self, name: str) -> bytes | None:
        try:
            return self._store.read(name)
        except ObjectMissing:
            return None


def _sum_of(data: bytes, column: str) -> Money | None:
    from assetgen_pipeline.adapters.fact_files import sum_of  # noqa: PLC0415 - see above

    return sum_of(data, column)
