"""What a deployment chose: limits, prices, and how to open what needs a running loop."""

from collections.abc import Callable
from dataclasses import dataclass, field

from assetgen_pipeline.domain.batch_file import CsvLimits
from assetgen_pipeline.domain.pricing import Catalogue
from assetgen_pipeline.ports.images import ImageProvider
from assetgen_pipeline.ports.references import ReferenceFetcher
from assetgen_pipeline.stages.approvals import ApprovalPolicy
from assetgen_pipeline.stages.fetch_references import FetchPolicy
from assetgen_pipeline.stages.generation_memory import GenerationMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The choices of one deployment that stages follow."""

    catalogue: Catalogue
    provider: str
    model: str
    open_provider: Callable[[str, str], ImageProvider]
    """Opens the provider and model named; call it in the loop that generates."""
    open_fetcher: Callable[[], ReferenceFetcher]
    """Opens a fetcher; call it in the loop that fetches."""
    csv_limits: CsvLimits = field(default_factory=CsvLimits)
    fetch_policy: FetchPolicy = field(default_factory=FetchPolicy)
    reference_chunk: int = 500
    generation_concurrency: int = 8
    shard_rows: int = 250
    max_runs_per_tick: int = 20
    inbox_owners: frozenset[str] = frozenset()
    memory: GenerationMemory = field(default_factory=GenerationMemory)
    approval: ApprovalPolicy = field(default_factory=ApprovalPolicy)
