"""What the stages of a batch share: the ports they work on, and the policies they follow."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from assetgen_pipeline.ports import Clock, CostFacts, ImageCodec, Ledger, ObjectStore, UrlSigner


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlPolicy:
    """How long signed URLs live, and when one is too old to hand out."""

    ttl: timedelta = timedelta(days=7)
    refresh_margin: timedelta = timedelta(minutes=5)


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
