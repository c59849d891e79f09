"""The stage that fetches reference images: each URL of a batch once, politely, or not at all.

Who may be asked and what may come back is decided by the ports behind it; here is when to
try again, when to give a host up, and when the batch's time is over. Where images are kept
is in `reference_shelf`; what a row then uses is decided in `merge_references`.
"""

import asyncio
import heapq
import itertools
import logging
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from assetgen_pipeline.domain.errors import ReferenceBlocked, ReferenceUnfetched
from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.orders import StopCode
from assetgen_pipeline.domain.own_objects import check_own_object, not_permitted, own_object
from assetgen_pipeline.domain.reference_index import KnownReference
from assetgen_pipeline.domain.references import (
    Blocked,
    Fetched,
    FetchedBytes,
    FetchOutcome,
    NotModified,
    StoredReference,
    Unfetched,
    url_fingerprint,
    url_label,
)
from assetgen_pipeline.ports.clock import Clock
from assetgen_pipeline.ports.references import ReferenceFetcher
from assetgen_pipeline.stages.bounded import map_bounded
from assetgen_pipeline.stages.fetch_history import FetchHistory
from assetgen_pipeline.stages.reference_shelf import ReferenceShelf

_log = logging.getLogger(__name__)
_TIME_OVER = "the batch's time for references was over"


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPolicy:
    """How hard to try."""

    concurrency: int = 4
    retries: int = 2
    backoff_s: tuple[float, ...] = (1.0, 2.0)
    """The wait before each retry; the last one repeats."""
    batch_deadline_s: float = 1800.0
    """Time for all fetches of a batch, over its steps."""
    host_failures: int = 3
    """URLs of one host that fail in a row before the host is given up."""
    own_endpoint: str = ""
    """The emulator's address, where one stands in for Google."""


class FetchedChunk(Value):
    """What became of each URL of a chunk, in the chunk's order."""

    first: int
    """Where the chunk begins among the batch's unique URLs."""
    outcomes: tuple[FetchOutcome, ...]
    requests: int
    """Network attempts made."""
    revalidated: int
    waited_s: float
    stopped: StopCode = ""
    """Why nothing was fetched, where the batch is to stop."""

    @classmethod
    def unfetched(cls, first: int, code: StopCode) -> "FetchedChunk":
        """A chunk that was left alone."""
        return cls(first=first, outcomes=(), requests=0, revalidated=0, waited_s=0, stopped=code)


async def fetch_chunk(
    urls: Sequence[str],
    *,
    first: int = 0,
    shelf: ReferenceShelf,
    fetcher: ReferenceFetcher,
    clock: Clock,
    policy: FetchPolicy,
    history: FetchHistory,
) -> tuple[FetchedChunk, FetchHistory]:
    """Fetch, decode and keep every URL, `policy.concurrency` at once; and what was learnt.

    Objects of our own bucket are read through the store, so only what the owner may use.

    Raises:
        StorageUnavailable: the bucket cannot be reached.
    """
    began = clock.monotonic()
    shelf.prepare()
    errand = _Errand(
        shelf=shelf,
        fetcher=fetcher,
        clock=clock,
        policy=policy,
        deadline=began + policy.batch_deadline_s - history.spent_s,
        fresh=deque(_Job(index, url, _host(url)) for index, url in enumerate(urls)),
        failures=dict(history.failures),
    )
    # While one half fetches, the other decodes and stores: bodies in memory are bounded by it.
    await map_bounded(errand.work, range(2 * policy.concurrency), limit=2 * policy.concurrency)
    chunk = FetchedChunk(
        first=first,
        outcomes=tuple(errand.outcomes[index] for index in range(len(urls))),
        requests=errand.requests,
        revalidated=errand.revalidated,
        waited_s=round(fetcher.waited_s, 3),
    )
    spent_s = max(0.0, clock.monotonic() - began)
    return chunk, FetchHistory(spent_s=spent_s, failures=errand.failures)


def chunk_summary(chunk: FetchedChunk) -> str:
    """One line for the log: what became of a chunk's URLs, and how long it waited for slots."""
    kinds = Counter(outcome.kind for outcome in chunk.outcomes)
    return (
        f"{len(chunk.outcomes)} URLs: {kinds['fetched']} fetched"
        f" ({chunk.revalidated} of them unchanged), {kinds['unfetched']} unfetched,"
        f" {kinds['blocked']} blocked; {chunk.requests} requests,"
        f" {chunk.waited_s:.1f} s of waiting for this machine's fetch slots"
    )


@dataclass(slots=True)
class _Job:
    """One URL to fetch, and how often it was tried."""

    index: int
    url: str
    host: str
    attempts: int = 0


class _Later(Exception):
    """A server asked for more patience than a worker has."""

    def __init__(self, due: float) -> None:
        super().__init__(due)
        self.due = due


@dataclass(slots=True, kw_only=True)
class _Errand:
    """One chunk under way: what it may use, and what it has learnt about hosts."""

    shelf: ReferenceShelf
    fetcher: ReferenceFetcher
    clock: Clock
    policy: FetchPolicy
    deadline: float
    fresh: deque[_Job]
    failures: dict[str, int]
    later: list[tuple[float, int, _Job]] = field(default_factory=list)
    rests: dict[str, float] = field(default_factory=dict)
    """Until when a host asked to be left alone."""
    outcomes: dict[int, FetchOutcome] = field(default_factory=dict)
    requests: int = 0
    revalidated: int = 0
    fetching: asyncio.Semaphore = field(init=False)
    keeping: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.fetching = asyncio.Semaphore(self.policy.concurrency)
        self.keeping = asyncio.Semaphore(self.policy.concurrency)

    async def work(self, _worker: int) -> None:
        """Take URLs until none is left."""
        while (job := await self._next()) is not None:
            try:
                self.outcomes[job.index] = await self._outcome(job)
            except _Later as later:
                heapq.heappush(self.later, (later.due, job.index, job))

    async def _next(self) -> _Job | None:
        """A URL that is due, else a fresh one, else the next one to become due."""
        if self.fresh and not (self.later and self.later[0][0] <= self.clock.monotonic()):
            return self.fresh.popleft()
        if not self.later:
            return None
        due, _, job = heapq.heappop(self.later)
        if due > self.clock.monotonic():
            await self.clock.sleep(due - self.clock.monotonic())
        return job

    async def _outcome(self, job: _Job) -> FetchOutcome:
        try:
            return Fetched(reference=await self._reference(job))
        except ReferenceBlocked as error:
            _log.warning("reference blocked: %s: %s", url_label(job.url), error)
            return Blocked(code=error.code, detail=str(error))
        except ReferenceUnfetched as error:
            fingerprint = url_fingerprint(job.url)
            return Unfetched(fingerprint=fingerprint, code=error.code, detail=str(error))

    async def _reference(self, job: _Job) -> StoredReference:
        shelf = self.shelf
        name = self._own_name(job.url)
        if name is not None:
            async with self.keeping:
                return await asyncio.to_thread(shelf.object, name)
        async with self.fetching:
            known = await asyncio.to_thread(shelf.known, job.url)
            answer = await self._answer(job, known)
        if isinstance(answer, KnownReference):
            self.revalidated += 1
            return answer.stored(shelf.owner)
        async with self.keeping:
            return await asyncio.to_thread(shelf.keep, job.url, answer)

    def _own_name(self, url: str) -> str | None:
        """The object of our bucket that a URL means, judged; `None` for a server's URL."""
        endpoint = self.policy.own_endpoint
        name = own_object(url, bucket=self.shelf.store.bucket, endpoint=endpoint)
        if name is not None:
            check_own_object(name, owner=self.shelf.owner)
        elif url.startswith("gs:"):
            raise not_permitted()
        return name

    async def _answer(
        self, job: _Job, known: KnownReference | None
    ) -> FetchedBytes | KnownReference:
        for _ in itertools.count():
            self._check_worth_trying(job.host)
            try:
                answer = await self._attempt(job, known)
            except ReferenceUnfetched as error:
                if not error.retryable:
                    # The host is there and answered: only this URL is bad.
                    self.failures[job.host] = 0
                    raise
                await self._wait(job, error)
            else:
                self.failures[job.host] = 0
                if isinstance(answer, FetchedBytes):
                    return answer
                if known is not None:
                    return known
                raise ReferenceUnfetched("the server gave no image")
        raise AssertionError("unreachable")

    async def _attempt(self, job: _Job, known: KnownReference | None) -> FetchedBytes | NotModified:
        self.requests += 1
        job.attempts += 1
        try:
            async with asyncio.timeout(self.deadline - self.clock.monotonic()):
                return await self.fetcher.fetch(
                    job.url, known=known.validators if known is not None else None
                )
        except TimeoutError as error:
            raise ReferenceUnfetched(_TIME_OVER) from error

    def _check_worth_trying(self, host: str) -> None:
        now = self.clock.monotonic()
        if now >= self.deadline:
            raise ReferenceUnfetched(_TIME_OVER)
        if self.failures.get(host, 0) >= self.policy.host_failures:
            raise ReferenceUnfetched("its server failed too often in this batch")
        rest = self.rests.get(host, 0.0)
        if rest > now:
            raise _Later(rest)

    async def _wait(self, job: _Job, error: ReferenceUnfetched) -> None:
        """Wait until the next attempt is due.

        Raises:
            ReferenceUnfetched: there is none.
            _Later: the server asked for longer than a backoff; the worker has other URLs.
        """
        backoff_s = self.policy.backoff_s[min(job.attempts, len(self.policy.backoff_s)) - 1]
        asked_s = error.retry_after_s or 0.0
        due = self.clock.monotonic() + max(backoff_s, asked_s)
        if job.attempts > self.policy.retries or due >= self.deadline:
            self.failures[job.host] = self.failures.get(job.host, 0) + 1
            raise error
        if asked_s > backoff_s:
            self.rests[job.host] = max(due, self.rests.get(job.host, 0.0))
            raise _Later(due)
        await self.clock.sleep(backoff_s)


def _host(url: str) -> str:
    return urlsplit(url).netloc.lower()
