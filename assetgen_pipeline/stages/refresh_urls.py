"""Sign URLs: the only stage that makes them, and the results file the only place they stand.

Every signing is recorded (when, why, by whom, which end it replaced) in `manifest.json`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.delivery import (
    LinkRefresh,
    RefreshCause,
    SignedUrl,
    SignedUrls,
    needs_refresh,
    run_margin,
)
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.domain.outcome import BatchOutcome
from assetgen_pipeline.domain.result_files import SignedLink, manifest_json, results_csv
from assetgen_pipeline.stages.batch_files import read_artifact
from assetgen_pipeline.stages.expiry_index import index_links
from assetgen_pipeline.stages.parse_batch import CSV_TYPE
from assetgen_pipeline.stages.services import Services

ARTIFACT = "signed_urls"
_JSON = "application/json"
_CHUNK = 500
_ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaces:
    """The generations that a refresh replaces, 0 for none: newer results are never overwritten."""

    manifest: int
    results: int


def read_links(batch_id: str, *, services: Services) -> SignedUrls | None:
    """What was last signed for a batch, `None` before its first signing.

    Raises:
        StorageUnavailable: the bucket cannot be reached.
    """
    return read_artifact(batch_id, ARTIFACT, SignedUrls, store=services.store)


def sign_results(
    outcome: BatchOutcome,
    *,
    services: Services,
    cause: RefreshCause = RefreshCause.RUN,
    replaces: Replaces | None = None,
) -> SignedUrls:
    """Sign every delivered image and thumbnail afresh and write results and manifest.

    The links leave with at least the margin before them, however long the signing took.

    Raises:
        ObjectChanged: results or manifest are no longer those that `replaces` names.
        StorageUnavailable: the bucket or the signing service cannot be reached.
    """
    names = [
        name
        for image in outcome.images
        if image.image is not None
        for name in (image.image.object_name, image.image.thumbnail_name)
    ]
    before = read_links(outcome.batch_id, services=services)
    signed_at = services.clock.now()
    signed = _sign_fresh(list(dict.fromkeys(names)), services=services)
    record = _record(
        outcome.batch_id, list(signed.values()), at=signed_at, cause=cause, before=before
    )
    links = {
        name: SignedLink(url=url.url, expires_at=url.expires_at.isoformat(), signer=url.signer)
        for name, url in signed.items()
    }
    _publish(outcome, record, links, before=before, replaces=replaces, services=services)
    return record


def withhold_links(outcome: BatchOutcome, *, services: Services) -> SignedUrls:
    """Write results without links where nothing can sign them, which are due to be signed.

    Raises:
        StorageUnavailable: the bucket cannot be reached.
    """
    before = read_links(outcome.batch_id, services=services)
    now = services.clock.now().isoformat()
    record = SignedUrls(
        batch_id=outcome.batch_id,
        urls=0,
        signer="",
        # Links that end now: whoever keeps links fresh signs them as soon as that works.
        expires_at=now,
        signed_at=now,
        published_at=now,
        refreshes=before.refreshes if before else (),
    )
    _publish(outcome, record, {}, before=before, replaces=None, services=services)
    return record


def _publish(
    outcome: BatchOutcome,
    record: SignedUrls,
    links: dict[str, SignedLink],
    *,
    before: SignedUrls | None,
    replaces: Replaces | None,
    services: Services,
) -> None:
    """Write the results, and have the index name the batch where these links end."""
    life, former = record.life, before.life if before else None
    entry = index_links(outcome.batch_id, life, store=services.store) if life else ""
    _write(outcome, record, links, replaces=replaces, services=services)
    if former and BatchFolder(outcome.batch_id).expiry(former.expires_at) != entry:
        services.store.delete(BatchFolder(outcome.batch_id).expiry(former.expires_at))


def keep_fresh(outcome: BatchOutcome, *, services: Services) -> SignedUrls | None:
    """Sign a running batch's links anew where they have less than the margin left.

    Raises:
        StorageUnavailable: the bucket or the signing service cannot be reached.
    """
    links = read_links(outcome.batch_id, services=services)
    life = links.life if links else None
    if life is None:
        return links
    margin = run_margin(life.expires_at - life.signed_at, services.urls.refresh_margin)
    if not needs_refresh(life, services.clock.now(), margin):
        return links
    return sign_results(outcome, services=services)


def lapse_results(
    outcome: BatchOutcome, before: SignedUrls, *, replaces: Replaces, services: Services
) -> SignedUrls:
    """Take dead links out of the results, which then say that they lapsed.

    Raises:
        ObjectChanged: results or manifest are no longer those that `replaces` names.
        StorageUnavailable: the bucket cannot be reached.
    """
    now = services.clock.now().isoformat()
    given_up = LinkRefresh(
        at=now,
        cause=RefreshCause.LAPSED,
        signer=before.signer,
        urls=0,
        old_expires_at=before.expires_at,
        new_expires_at="",
    )
    record = before.model_copy(
        update={"lapsed": True, "urls": 0, "refreshes": (*before.refreshes, given_up)}
    )
    _write(outcome, record, {}, replaces=replaces, services=services)
    return record


def _sign_fresh(names: Sequence[str], *, services: Services) -> dict[str, SignedUrl]:
    """Sign all names; those that grew too old while the others were signed are signed again."""
    signed: dict[str, SignedUrl] = {}
    margin = services.urls.refresh_margin
    stale = list(names)
    for _ in range(_ROUNDS):
        for first in range(0, len(stale), _CHUNK):
            chunk = stale[first : first + _CHUNK]
            now = services.clock.now()
            urls = services.signer.sign(chunk, ttl=services.urls.ttl, now=now)
            signed.update(zip(chunk, urls, strict=True))
            # The signer cuts a TTL to what it can promise, so a link itself says how long it lives.
            margin = min(margin, run_margin(urls[0].expires_at - now, margin))
        now = services.clock.now()
        stale = [name for name in names if needs_refresh(signed[name], now, margin)]
        if not stale:
            return signed
    raise StorageUnavailable("signing takes longer than the links live; raise URL_TTL")


def _record(
    batch_id: str,
    signed: Sequence[SignedUrl],
    *,
    at: datetime,
    cause: RefreshCause,
    before: SignedUrls | None,
) -> SignedUrls:
    first = min((url.expires_at for url in signed), default=None)
    end, now = first.isoformat() if first else "", at.isoformat()
    signer = signed[0].signer if signed else ""
    refresh = LinkRefresh(
        at=now,
        cause=cause,
        signer=signer,
        urls=len(signed),
        old_expires_at=before.expires_at if before else "",
        new_expires_at=end,
    )
    published = before.published_at if before and cause is not RefreshCause.RUN else ""
    return SignedUrls(
        batch_id=batch_id,
        urls=len(signed),
        signer=signer,
        expires_at=end,
        signed_at=now,
        published_at=published or now,
        refreshes=(*(before.refreshes if before else ()), refresh),
    )


def _write(
    outcome: BatchOutcome,
    record: SignedUrls,
    links: dict[str, SignedLink],
    *,
    replaces: Replaces | None,
    services: Services,
) -> None:
    store, folder = services.store, BatchFolder(outcome.batch_id)
    # The manifest first, as a run does: where a run has begun to publish, nothing is touched.
    data = manifest_json(outcome, bucket=store.bucket, signed=record, links=links)
    guard = replaces.manifest if replaces else None
    store.write(folder.manifest, data, content_type=_JSON, if_generation=guard)
    lapsed_at = record.expires_at if record.lapsed else ""
    data = results_csv(outcome, links, bucket=store.bucket, lapsed_at=lapsed_at)
    guard = replaces.results if replaces else None
    store.write(folder.results, data, content_type=CSV_TYPE, if_generation=guard)
    store.write(folder.artifact(ARTIFACT), record.model_dump_json().encode(), content_type=_JSON)
