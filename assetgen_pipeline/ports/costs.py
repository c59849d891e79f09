"""Where cost facts are published."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import date

from assetgen_pipeline.domain.day_spend import DaySpend
from assetgen_pipeline.domain.money import Money


class CostFacts(ABC):
    """The Parquet files analysts query: facts per batch and budget day, and daily sums.

    Every call can raise `StorageUnavailable`.
    """

    @abstractmethod
    def publish(self, batch_id: str, day: date, facts: Sequence[Mapping[str, object]]) -> bool:
        """Make one batch's file of one budget day hold these facts; none means no file.

        Returns whether anything was written: a file that holds them already stays as it is.
        """

    @abstractmethod
    def batch_cost(self, batch_id: str, day: date) -> Money | None:
        """What a batch's file of one day sums to, `None` where there is no file."""

    @abstractmethod
    def batch_costs(self, day: date) -> dict[str, Money]:
        """What every batch's file of one day sums to."""

    @abstractmethod
    def publish_day(self, spend: DaySpend) -> bool:
        """Make the daily file hold the sums of one budget day; whether anything was written."""

    @abstractmethod
    def day_cost(self, day: date) -> Money | None:
        """What the daily file's settled amounts sum to, `None` where there is no file."""
