"""Cost facts in memory."""

from collections.abc import Mapping, Sequence
from datetime import date

from assetgen_pipeline.domain.bucket_layout import COSTS, BatchFolder, day_costs_name
from assetgen_pipeline.domain.day_spend import DaySpend, day_rows
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.ports.costs import CostFacts


class InMemoryCostFacts(CostFacts):
    """Keeps every file's rows by the file's name; `written` lists every change in order."""

    def __init__(self) -> None:
        """Begin empty."""
        self.files: dict[str, list[Mapping[str, object]]] = {}
        self.written: list[str] = []

    def publish(self, batch_id: str, day: date, facts: Sequence[Mapping[str, object]]) -> bool:
        """Keep one batch's facts of one budget day; none means no file."""
        return self._put(BatchFolder(batch_id).costs(day.isoformat()), list(facts))

    def batch_cost(self, batch_id: str, day: date) -> Money | None:
        """What a batch's file of one day sums to, `None` where there is no file."""
        return self._sum(BatchFolder(batch_id).costs(day.isoformat()), "cost_micros")

    def batch_costs(self, day: date) -> dict[str, Money]:
        """What every batch's file of one day sums to."""
        prefix = f"{COSTS}dt={day.isoformat()}/"
        return {
            name.removeprefix(prefix).removesuffix(".parquet"): _total(rows, "cost_micros")
            for name, rows in self.files.items()
            if name.startswith(prefix)
        }

    def publish_day(self, spend: DaySpend) -> bool:
        """Keep the sums of one budget day, also of one without any."""
        name = day_costs_name(spend.budget_date.isoformat())
        return self._put(name, day_rows(spend), keep_empty=True)

    def day_cost(self, day: date) -> Money | None:
        """What the daily file's settled amounts sum to, `None` where there is no file."""
        return self._sum(day_costs_name(day.isoformat()), "settled_micros")

    def _put(
        self, name: str, rows: list[Mapping[str, object]], *, keep_empty: bool = False
    ) -> bool:
        wanted = rows if rows or keep_empty else None
        if self.files.get(name) == wanted:
            return False
        if wanted is None:
            del self.files[name]
        else:
            self.files[name] = wanted
        self.written.append(name)
        return True

    def _sum(self, name: str, column: str) -> Money | None:
        return _total(self.files[name], column) if name in self.files else None


def _total(rows: Sequence[Mapping[str, object]], column: str) -> Money:
    return Money(sum(int(str(row[column])) for row in rows))
