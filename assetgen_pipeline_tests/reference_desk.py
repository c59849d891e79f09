"""What fetching references needs, in memory, with its results in reach."""

from typing import NamedTuple

from assetgen_pipeline.domain.errors import ReferenceUnfetched
from assetgen_pipeline.domain.references import FetchedBytes, Validators
from assetgen_pipeline.stages.fetch_history import FetchHistory
from assetgen_pipeline.stages.fetch_references import FetchedChunk, FetchPolicy, fetch_chunk
from assetgen_pipeline.stages.reference_shelf import ReferenceShelf
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.testing.references import FakeImageCodec, ScriptedReferenceFetcher

A, B, C = "https://a.example/1.png", "https://b.example/2.png", "https://c.example/3.png"


def again(retry_after_s=None):
    return ReferenceUnfetched("down", retryable=True, retry_after_s=retry_after_s)


def sent(data, etag="", last_modified=""):
    validators = Validators(etag=etag, last_modified=last_modified)
    return FetchedBytes(data=data, content_type="image/png", validators=validators)


def put(store, name, data=b"image"):
    store.create(name, data, content_type="image/png")


class Desk:
    """What fetching needs, with the results in reach."""

    def __init__(self, script=(), store=None, fetcher=None):
        self.fetcher = fetcher or ScriptedReferenceFetcher(dict(script))
        self.store = store or InMemoryObjectStore()
        self.clock = ManualClock()
        self.history = FetchHistory()

    def shelf(self):
        return ReferenceShelf("team", store=self.store, codec=FakeImageCodec())

    async def chunk(self, *urls, first=0, **policy):
        shelf = self.shelf()
        chunk, learnt = await fetch_chunk(
            urls,
            first=first,
            shelf=shelf,
            fetcher=self.fetcher,
            clock=self.clock,
            policy=FetchPolicy(**policy),
            history=self.history,
        )
        shelf.remember()
        self.history = FetchHistory(
            spent_s=self.history.spent_s + learnt.spent_s, failures=learnt.failures
        )
        return chunk

    async def fetch(self, *urls, **policy):
        chunk = await self.chunk(*urls, **policy)
        return Result(dict(zip(urls, chunk.outcomes, strict=True)), chunk.requests, chunk)


class Result(NamedTuple):
    outcomes: dict
    requests: int
    chunk: FetchedChunk
