"""What the shards of a batch did, as far as the ledger does not say it."""

from pydantic import Field

from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.orders import Reason


class ShardReport(Value):
    """What one shard did; the outcomes themselves stand in the ledger."""

    images: int
    generated: int
    reused: int
    already_delivered: int
    failed: int
    not_attempted: int
    stopped: Reason | None = None
    """Why the shard stopped early, where it did."""
    refused: dict[str, Reason] = Field(default_factory=dict)
    """Images whose further attempt the budget did not cover, by item."""


class GenerationReport(Value):
    """All shards of a batch: the artifact of `generated_images`."""

    run_id: str
    shards: tuple[ShardReport, ...]

    @property
    def stopped(self) -> Reason | None:
        """Why images were left, where some were."""
        return next((shard.stopped for shard in self.shards if shard.stopped is not None), None)

    @property
    def refused(self) -> dict[str, Reason]:
        """Images whose further attempt the budget did not cover, of all shards."""
        return {item: why for shard in self.shards for item, why in shard.refused.items()}
