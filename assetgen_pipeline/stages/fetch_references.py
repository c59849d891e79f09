"""The stage that fetches reference images: each URL of a batch once, politely, or not at all.

Who may be asked and what may come back is decided by the ports behind it; here is when to
try again, when to give a host up, and where the result is kept. What a row then uses is
decided in `domain/references.py`.
"""

import asyncio
import hashlib
import itertools
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from assetgen_pipeline.domain.bucket_layout import pack_prefix, reference_name
from assetgen_pipeline.domain.errors import (
    ObjectExists,
    ObjectMissing,
    ReferenceBlocked,
    ReferenceUnfetched,
)
from assetgen_pipeline.domain.image_request import MAX_REFERENCES, BatchRequests, Value
from assetgen_pipeline.domain.reference_url import check_reference_url
from assetgen_pipeline.domain.references import (
    Blocked,
    Fetched,
    FetchOutcome,
    PackContent,
    ReferenceDecision,
    StoredReference,
    Unfetched,
    content_fingerprint,
    decide_row,
    url_fingerprint,
    url_label,
)
from assetgen_pipeline.ports import Clock, ImageCodec, ObjectInfo, ObjectStore, ReferenceFetcher
from assetgen_pipeline.stages.bounded import map_bounded

_log = logging.getLogger(__name__)
_MAX_OBJECT_BYTES = 20 * 1024 * 1024
_MAX_RETRY_AFTER_S = 60.0
_STORAGE_HOST = "storage.googleapis.com"
_PACK_ID = re.compile(r"\A[A-Za-z0-9_.-]{1,100}\Z")
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPolicy:
    """How hard to try; `deadline_at_monotonic` is on the clock that `fetch_chunk` is given."""

    concurrency: int = 4
    retries: int = 2
    backoff_s: tuple[float, ...] = (1.0, 2.0)
    """The wait before each retry; the last one repeats."""
    deadline_at_monotonic: float | None = None
    host_failures: int = 3
    """URLs of one host that fail in a row before the host is given up."""


class FetchedChunk(Value):
    """What became of each URL of a chunk."""

    outcomes: dict[str, FetchOutcome]
    requests: int
    """Network attempts made."""


def plan_reference_chunks(batch: BatchRequests, *, chunk: int) -> list[list[str]]:
    """The batch's unique URLs in first-named order, `chunk` at a time."""
    urls = list(dict.fromkeys(url for row in batch.requests for url in row.reference_urls))
    return [urls[start : start + chunk] for start in range(0, len(urls), chunk)]


async def fetch_chunk(
    urls: Sequence[str],
    *,
    owner: str,
    fetcher: ReferenceFetcher,
    codec: ImageCodec,
    store: ObjectStore,
    clock: Clock,
    policy: FetchPolicy,
) -> FetchedChunk:
    """Fetch, decode and keep every URL, `policy.concurrency` at once.

    Objects of our own bucket are read through the store, so only what the owner may use.

    Raises:
        StorageUnavailable: the bucket cannot be reached.
    """
    errand = _Errand(
        owner=owner, fetcher=fetcher, codec=codec, store=store, clock=clock, policy=policy
    )
    outcomes = await map_bounded(errand.outcome, urls, limit=policy.concurrency)
    return FetchedChunk(outcomes=dict(zip(urls, outcomes, strict=True)), requests=errand.requests)


def load_packs(
    batch: BatchRequests, *, store: ObjectStore, codec: ImageCodec, owner: str
) -> dict[str, PackContent]:
    """Read the packs that the batch names: the first images of each, kept as the owner's.

    An image of a pack that cannot be used is left out and logged.

    Raises:
        StorageUnavailable: the bucket cannot be reached.
    """
    pack_ids = dict.fromkeys(row.ref_pack_id for row in batch.requests if row.ref_pack_id)
    return {
        pack_id: _load_pack(pack_id, store=store, codec=codec, owner=owner) for pack_id in pack_ids
    }


def decide(
    batch: BatchRequests,
    outcomes: Mapping[str, FetchOutcome],
    packs: Mapping[str, PackContent],
    requests: int,
) -> ReferenceDecision:
    """Merge what was fetched into one decision per row."""
    return ReferenceDecision(
        rows=tuple(decide_row(row, outcomes=outcomes, packs=packs) for row in batch.requests),
        named=sum(len(row.reference_urls) for row in batch.requests),
        unique_urls=len(outcomes),
        fetched=sum(isinstance(outcome, Fetched) for outcome in outcomes.values()),
        requests=requests,
    )


@dataclass(slots=True, kw_only=True)
class _Errand:
    """One chunk under way: what it may use, and what it has learnt about hosts."""

    owner: str
    fetcher: ReferenceFetcher
    codec: ImageCodec
    store: ObjectStore
    clock: Clock
    policy: FetchPolicy
    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    async def outcome(self, url: str) -> FetchOutcome:
        try:
            data = await self._bytes(url)
            reference = await asyncio.to_thread(
                _keep, data, store=self.store, codec=self.codec, owner=self.owner
            )
        except ReferenceBlocked as error:
            _log.warning("reference blocked: %s: %s", url_label(url), error)
            return Blocked(code=error.code, detail=str(error))
        except ReferenceUnfetched as error:
            return Unfetched(fingerprint=url_fingerprint(url), code=error.code, detail=str(error))
        return Fetched(reference=reference)

    async def _bytes(self, url: str) -> bytes:
        name = _own_object(url, bucket=self.store.bucket, owner=self.owner)
        if name is not None:
            return await asyncio.to_thread(_read_object, name, store=self.store)
        host = urlsplit(url).hostname or ""
        for attempt in itertools.count():
            self._check_worth_trying(host)
            self.requests += 1
            try:
                fetched = await self.fetcher.fetch(url)
            except ReferenceUnfetched as error:
                if not error.retryable:
                    # The host is there and answered: only this URL is bad.
                    self.failures.pop(host, None)
                    raise
                if not await self._waited(attempt, error):
                    self.failures[host] += 1
                    raise
            else:
                self.failures.pop(host, None)
                return fetched.data
        raise AssertionError("unreachable")

    def _check_worth_trying(self, host: str) -> None:
        deadline = self.policy.deadline_at_monotonic
        if deadline is not None and self.clock.monotonic() >= deadline:
            raise ReferenceUnfetched("the batch's time for references was over")
        if self.failures[host] >= self.policy.host_failures:
            raise ReferenceUnfetched("its server failed too often in this batch")

    async def _waited(self, attempt: int, error: ReferenceUnfetched) -> bool:
        """Wait until the next attempt is due, or say that there is none."""
        if attempt >= self.policy.retries:
            return False
        backoff_s = self.policy.backoff_s[min(attempt, len(self.policy.backoff_s) - 1)]
        wait_s = max(backoff_s, min(error.retry_after_s or 0.0, _MAX_RETRY_AFTER_S))
        deadline = self.policy.deadline_at_monotonic
        if deadline is not None and self.clock.monotonic() + wait_s >= deadline:
            return False
        await self.clock.sleep(wait_s)
        return True


def _own_object(url: str, *, bucket: str, owner: str) -> str | None:
    """The object of our bucket that a URL means, judged; `None` where it is somebody else's."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme == "gs":
        check_reference_url(url, allowed_networks=(), own_bucket=bucket, owner=owner)
        return parts.path.removeprefix("/")
    if host == f"{bucket}.{_STORAGE_HOST}":
        name = unquote(parts.path.removeprefix("/"))
    elif host == _STORAGE_HOST and parts.path.startswith(f"/{bucket}/"):
        name = unquote(parts.path.removeprefix(f"/{bucket}/"))
    else:
        return None
    # The same rule as for gs://, so that spelling an object otherwise opens nothing.
    same = f"gs://{bucket}/{quote(name)}"
    check_reference_url(same, allowed_networks=(), own_bucket=bucket, owner=owner)
    return name


def _read_object(name: str, *, store: ObjectStore) -> bytes:
    info = store.stat(name)
    if info is None:
        raise ReferenceUnfetched("no such object in the bucket")
    return _read(info, store=store)


def _read(info: ObjectInfo, *, store: ObjectStore) -> bytes:
    if info.size > _MAX_OBJECT_BYTES:
        message = f"larger than {_MAX_OBJECT_BYTES} bytes"
        raise ReferenceUnfetched(message, code="reference-too-large")
    try:
        return store.read(info.name, generation=info.generation)
    except ObjectMissing as error:
        raise ReferenceUnfetched("no such object in the bucket") from error


def _keep(data: bytes, *, store: ObjectStore, codec: ImageCodec, owner: str) -> StoredReference:
    decoded = codec.decode_reference(data)
    sha256 = hashlib.sha256(data).hexdigest()
    name = reference_name(owner, sha256, decoded.mime_type)
    with suppress(ObjectExists):
        store.create(name, decoded.data, content_type=decoded.mime_type)
    return StoredReference(
        fingerprint=content_fingerprint(sha256),
        object_name=name,
        mime_type=decoded.mime_type,
        width=decoded.width,
        height=decoded.height,
    )


def _load_pack(pack_id: str, *, store: ObjectStore, codec: ImageCodec, owner: str) -> PackContent:
    # The local bucket is a file system, where "." and ".." would lead elsewhere.
    if not _PACK_ID.match(pack_id) or pack_id in {".", ".."}:
        return PackContent(pack_id=pack_id, found=False, references=())
    prefix = pack_prefix(pack_id)
    images = (
        info
        for info in store.list(prefix)
        if info.name.lower().endswith(_IMAGE_SUFFIXES) and "/" not in info.name[len(prefix) :]
    )
    chosen = list(itertools.islice(images, MAX_REFERENCES))
    references = []
    for info in chosen:
        try:
            references.append(
                _keep(_read(info, store=store), store=store, codec=codec, owner=owner)
            )
        except ReferenceUnfetched as error:
            _log.warning("%s is left out: %s: %s", info.name, error.code, error)
    return PackContent(pack_id=pack_id, found=bool(chosen), references=tuple(references))
