"""One shard's work: what it is given, and when it stops."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from assetgen_pipeline.domain.budget import Hold
from assetgen_pipeline.domain.orders import Reason
from assetgen_pipeline.domain.pricing import Catalogue
from assetgen_pipeline.domain.problems import PROBLEM_CODES
from assetgen_pipeline.domain.tally import Earlier
from assetgen_pipeline.ports.images import ImageProvider
from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.stages.pacer import Pacer
from assetgen_pipeline.stages.progress import Progress
from assetgen_pipeline.stages.reserve_budget import BudgetHold
from assetgen_pipeline.stages.services import Services


@dataclass(slots=True, kw_only=True)
class ShardJob:
    """One shard's work, and what is known while it runs."""

    hold: Hold
    run_id: str
    lane: str
    catalogue: Catalogue
    provider: ImageProvider
    pacer: Pacer
    services: Services
    concurrency: int
    """Requests in flight and images in memory, both together."""
    should_stop: Callable[[], str]
    """A problem code as soon as no further image may be started, else empty."""
    on_progress: Callable[[], None]
    """Called, in a thread, after every image and while waiting."""
    on_end: Callable[[str], object] = lambda _item: None
    """Called with each item at which no further attempt is made."""
    is_progress_due: Callable[[], bool] = lambda: True
    """Whether `on_progress` would do anything now; spares a thread that only finds out."""
    earlier: Callable[[], Earlier] | None = None
    """What earlier attempts came to; asked of the ledger where not given."""
    alone: bool = False
    """Whether the batch has no other shard, so that what its hold has left is to spare."""
    jitter: Callable[[], float] = random.random
    """Between 0 and 1: spreads what waits to try again."""
    stopped: Reason | None = None
    storage_troubles: int = 0
    crash: Exception | None = None
    counts: dict[str, int] = field(default_factory=dict)
    refused: dict[str, Reason] = field(default_factory=dict)

    def stop(self, code: str, because: str) -> None:
        """Start no further image; the first reason stays."""
        if self.stopped is None:
            self.stopped = Reason(code=code, detail=because)

    def note_trouble(self, change: int) -> None:
        """Count the paid images that cannot be stored at present up or down."""
        self.storage_troubles += change

    async def is_stopped(self) -> bool:
        """Whether no further image may be started; reports progress where it is time to."""
        await self.report_progress()
        self.heed_breaker()
        asked = self.should_stop()
        if asked:
            # To wait is no problem: the rest is only still to come.
            known = PROBLEM_CODES.get(asked)
            self.stop(asked, known.detail if known is not None else "The batch waits.")
        return self.stopped is not None

    async def report_progress(self) -> None:
        """Report where it is time to, and nothing has gone wrong."""
        if self.crash is None and self.is_progress_due():
            await asyncio.to_thread(self.on_progress)

    def heed_breaker(self) -> None:
        """Stop where the provider's failures say so."""
        opened_by = self.pacer.breaker.opened_by
        if opened_by is not None:
            self.stop(opened_by.code, str(opened_by))


def shard_job(
    held: BudgetHold,
    progress: Progress,
    *,
    run_id: str,
    alone: bool,
    deployment: Deployment,
    services: Services,
) -> ShardJob:
    """A shard's work at the pace of its run, stopped by the batch's progress; close its provider."""
    price = deployment.catalogue.price(held.provider, held.model)
    concurrency = deployment.generation_concurrency
    return ShardJob(
        hold=held.hold,
        run_id=run_id,
        lane=held.lane,
        catalogue=deployment.catalogue,
        provider=deployment.open_provider(held.provider, held.model),
        pacer=deployment.memory.pacer(run_id, price, ceiling=concurrency, clock=services.clock),
        services=services,
        concurrency=concurrency,
        earlier=progress.earlier,
        alone=alone,
        should_stop=progress.stop_code,
        on_progress=progress.report,
        on_end=progress.ended,
        is_progress_due=progress.is_due,
    )
