"""What one process keeps while it works: the pace of each model, a batch's progress and its end.

The shards of a run follow one another in one process; what the first one learned of a
provider holds for the next.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from assetgen_pipeline.domain.orders import StopCode
from assetgen_pipeline.domain.pricing import ModelPrice
from assetgen_pipeline.ports.clock import Clock
from assetgen_pipeline.stages.pacer import Pacer
from assetgen_pipeline.stages.progress import Progress


@dataclass(slots=True)
class GenerationMemory:
    """Begins empty; every run has a memory of its own in it."""

    _pacers: dict[tuple[str, str, str], Pacer] = field(default_factory=dict)
    _progress: dict[tuple[str, str], Progress] = field(default_factory=dict)
    _stops: dict[str, StopCode] = field(default_factory=dict)

    def stop(self, run_id: str, code: StopCode) -> bool:
        """Have the steps of a run begin nothing; the first reason stays: whether this is it."""
        known = self._stops.get(run_id, "")
        if code and not known:
            self._stops[run_id] = code
        return bool(code) and not known

    def stop_code(self, run_id: str) -> StopCode:
        """Why the steps of a run begin nothing, empty where they may."""
        return self._stops.get(run_id, "")

    def pacer(self, run_id: str, price: ModelPrice, *, ceiling: int, clock: Clock) -> Pacer:
        """The pacer of a run and model; one that was never asked for begins at the ceiling."""
        key = (run_id, price.provider, price.model)
        if key not in self._pacers:
            limits = (price.limits.requests_per_minute, price.limits.images_per_minute)
            per_minute = [limit for limit in limits if limit is not None]
            self._pacers[key] = Pacer(ceiling=ceiling, clock=clock, per_minute=per_minute)
        return self._pacers[key]

    def progress(self, batch_id: str, run_id: str, begin: Callable[[], Progress]) -> Progress:
        """The progress of a batch's run, begun where it is the first shard's."""
        key = (batch_id, run_id)
        if key not in self._progress:
            self._progress[key] = begin()
        return self._progress[key]
