"""Keep the links of published batches fresh: sign those that are due, give up the old ones.

A batch that a run works on is left to that run. Results are replaced at the generations
that were read first, before the ledger was asked: whoever published something newer since
wins, and nothing older ever overwrites it.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.delivery import (
    LinkAction,
    RefreshCause,
    SignedUrls,
    UrlPolicy,
    published_margin,
)
from assetgen_pipeline.domain.errors import AssetgenError, BatchNotFound, ObjectChanged
from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.outcome import BatchOutcome
from assetgen_pipeline.domain.refresh_plan import IndexEntry
from assetgen_pipeline.domain.status import is_terminal
from assetgen_pipeline.stages.batch_files import outcome_now
from assetgen_pipeline.stages.batch_status import read_status, touch_status
from assetgen_pipeline.stages.bounded import map_bounded
from assetgen_pipeline.stages.expiry_index import index_links, indexed_within
from assetgen_pipeline.stages.refresh_urls import (
    Replaces,
    lapse_results,
    read_links,
    sign_results,
)
from assetgen_pipeline.stages.services import Services

logger = logging.getLogger(__name__)

AT_ONCE = 4

Result = Literal["refreshed", "lapsed", "fresh", "running", "superseded", "gone", "failed"]


class Refreshed(Value):
    """What became of one batch's links; holds no URL."""

    batch_id: str
    result: Result
    cause: RefreshCause = RefreshCause.EXPIRING
    urls: int = 0
    signer: str = ""
    old_expires_at: str = ""
    expires_at: str = ""
    code: str = ""
    """A problem code where it failed."""


def refresh_horizon(policy: UrlPolicy) -> timedelta:
    """The longest time before its end at which a published link can be due."""
    return published_margin(policy.ttl, policy.refresh_margin)


async def refresh_published(
    batch_ids: Sequence[str], *, cause: RefreshCause, services: Services
) -> list[Refreshed]:
    """Refresh many batches, a few at once; one that fails does not hold up the others.

    With `EXPIRING` only what is due; an operator's refresh always signs anew.

    Raises:
        StorageUnavailable: the index cannot be read.
    """
    horizon = refresh_horizon(services.urls)
    entries = await asyncio.to_thread(
        indexed_within, horizon, services.clock.now(), store=services.store
    )

    async def refresh(batch_id: str) -> Refreshed:
        due = entries.get(batch_id, [])
        return await asyncio.to_thread(_guarded, batch_id, due, cause=cause, services=services)

    return await map_bounded(refresh, list(dict.fromkeys(batch_ids)), limit=AT_ONCE)


def refresh_batch(
    batch_id: str,
    due: Sequence[IndexEntry] = (),
    *,
    cause: RefreshCause,
    services: Services,
) -> Refreshed:
    """Refresh one batch; `due` are its entries in the index that the caller has seen.

    Raises:
        StorageUnavailable, LedgerUnavailable: the entries stay, so it is due again.
    """
    store, folder = services.store, BatchFolder(batch_id)
    # First of all: what is written from here on by others makes our writes fail.
    generation = _generation(folder.status, services)
    replaces = Replaces(
        manifest=_generation(folder.manifest, services),
        results=_generation(folder.results, services),
    )
    try:
        status = read_status(batch_id, store=store)
    except BatchNotFound:
        return _gone(batch_id, due, services=services)
    if not is_terminal(status.state):
        return Refreshed(batch_id=batch_id, result="running")
    before = read_links(batch_id, services=services)
    action = _action(before, cause, services)
    if before is not None and action is LinkAction.WAIT:
        return _still_fresh(before, due, services=services)
    outcome = outcome_now(batch_id, store=store, ledger=services.ledger)
    if before is None or outcome is None:
        return _gone(batch_id, due, services=services)
    try:
        record = _replace(outcome, before, action, cause, replaces=replaces, services=services)
        touch_status(batch_id, generation=generation, store=store, clock=services.clock)
    except ObjectChanged:
        return Refreshed(batch_id=batch_id, result="superseded")
    _forget(due, keep=_entry(record), services=services)
    return Refreshed(
        batch_id=batch_id,
        result="lapsed" if record.lapsed else "refreshed",
        cause=record.refreshes[-1].cause,
        urls=record.urls,
        signer=record.signer,
        old_expires_at=before.expires_at,
        expires_at="" if record.lapsed else record.expires_at,
    )


def _guarded(
    batch_id: str, due: Sequence[IndexEntry], *, cause: RefreshCause, services: Services
) -> Refreshed:
    try:
        return refresh_batch(batch_id, due, cause=cause, services=services)
    except AssetgenError as error:
        logger.warning("links of %s were not refreshed: %s: %s", batch_id, error.code, error)
        return Refreshed(batch_id=batch_id, result="failed", code=error.code)


def _action(before: SignedUrls | None, cause: RefreshCause, services: Services) -> LinkAction:
    if cause is RefreshCause.OPERATOR:
        return LinkAction.REFRESH
    life = before.life if before else None
    return life.action(services.clock.now(), services.urls) if life else LinkAction.WAIT


def _replace(
    outcome: BatchOutcome,
    before: SignedUrls,
    action: LinkAction,
    cause: RefreshCause,
    *,
    replaces: Replaces,
    services: Services,
) -> SignedUrls:
    if action is LinkAction.LAPSE:
        return lapse_results(outcome, before, replaces=replaces, services=services)
    return sign_results(outcome, services=services, cause=cause, replaces=replaces)


def _still_fresh(before: SignedUrls, due: Sequence[IndexEntry], *, services: Services) -> Refreshed:
    """The links are good, or there are none: entries that say otherwise are left-overs."""
    life = before.life
    keep = index_links(before.batch_id, life, store=services.store) if life and due else ""
    _forget(due, keep=keep, services=services)
    return Refreshed(
        batch_id=before.batch_id,
        result="fresh",
        urls=before.urls,
        signer=before.signer,
        old_expires_at=before.expires_at,
        expires_at=before.expires_at,
    )


def _gone(batch_id: str, due: Sequence[IndexEntry], *, services: Services) -> Refreshed:
    """Purged, or never signed: nobody needs to look again."""
    _forget(due, keep="", services=services)
    return Refreshed(batch_id=batch_id, result="gone")


def _entry(record: SignedUrls) -> str:
    life = record.life
    return BatchFolder(record.batch_id).expiry(life.expires_at) if life else ""


def _forget(due: Sequence[IndexEntry], *, keep: str, services: Services) -> None:
    for entry in due:
        if entry.name != keep:
            services.store.delete(entry.name)


def _generation(name: str, services: Services) -> int:
    found = services.store.stat(name)
    return found.generation if found else 0
