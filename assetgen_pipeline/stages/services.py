"""What the stages of a batch share: the ports they work on, and the policies they follow."""

from collections.abc import Callable
from dataclasses import dataclass, field

from assetgen_pipeline.domain.batch_file import CsvLimits
from assetgen_pipeline.domain.delivery import UrlPolicy
from assetgen_pipeline.ports.clock import Clock
from assetgen_pipeline.ports.costs import CostFacts
from assetgen_pipeline.ports.delivery import UrlSigner
from assetgen_pipeline.ports.images import ImageCodec
from assetgen_pipeline.ports.ledger import Ledger
from assetgen_pipeline.ports.object_store import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The adapters of one process, opened by `wiring`."""

    store: ObjectStore
    ledger: Ledger
    signer: UrlSigner
    codec: ImageCodec
    facts: CostFacts
    clock: Clock
    link: Callable[[str], str]
    """The address of an object for a browser, without any signature in it."""
    urls: UrlPolicy = field(default_factory=UrlPolicy)
    csv_limits: CsvLimits = field(default_factory=CsvLimits)
    """What a file may ask, for those who list its rows where no run has read them."""
