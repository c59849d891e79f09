"""Receipts: what an uploaded image says of the paid attempt that made it.

A process can die after the image is stored and before its cost is booked. The object's
metadata names the attempt and its cost, so that recovery books it instead of assuming.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from assetgen_pipeline.domain.bucket_layout import image_prefix, thumbnail_name
from assetgen_pipeline.domain.budget import (
    AttemptRecord,
    AttemptState,
    AttemptToken,
    StoredImage,
)
from assetgen_pipeline.domain.errors import ObjectExists, ObjectMissing
from assetgen_pipeline.domain.generation import ProviderError, ProviderImage
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.ports.object_store import ObjectInfo, ObjectStore
from assetgen_pipeline.stages.services import Services

logger = logging.getLogger(__name__)
_BASES = ("usage", "flat")
_LATENCIES_MS = range(10**9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What an image's metadata says of its attempt."""

    name: str
    cost: Money
    cost_basis: str
    latency_ms: int


def receipt_metadata(token: AttemptToken, answer: ProviderImage, latency_ms: int) -> dict[str, str]:
    """The custom metadata of an image object: ASCII tokens only, never a prompt."""
    return {
        "attempt_id": token.attempt_id,
        "cost_micros": str(answer.cost.micros),
        "cost_basis": answer.cost_basis,
        "latency_ms": str(latency_ms),
    }


def create_thumbnail(name: str, data: bytes, *, store: ObjectStore) -> None:
    """Upload a thumbnail unless one is there."""
    try:
        store.create(name, data, content_type="image/jpeg")
    except ObjectExists:
        return


def describe_stored(name: str, *, owner: str, services: Services) -> StoredImage:
    """Read a stored image again, make sure that it has a thumbnail, and describe it.

    Raises:
        ProviderError: of kind `bad_output`; the object is not an image.
    """
    data = services.store.read(name)
    facts = services.codec.inspect(data)
    image_id = name.rpartition("/")[2].partition(".")[0]
    kept = StoredImage.of(
        data,
        object_name=name,
        thumbnail_name=thumbnail_name(owner, image_id),
        mime_type=facts.mime_type,
        size=(facts.width, facts.height),
    )
    create_thumbnail(kept.thumbnail_name, facts.thumbnail, store=services.store)
    return kept


def find_stored(image_id: str, *, owner: str, services: Services) -> StoredImage | None:
    """The image that stands in the bucket under a content address, if it can be delivered."""
    for info in services.store.list(image_prefix(owner, image_id)):
        found = _described(info.name, owner=owner, services=services)
        if isinstance(found, StoredImage):
            return found
    return None


def read_thumbnail(image: StoredImage, *, owner: str, services: Services) -> bytes | None:
    """An image's thumbnail, made again from the image where it was lost; `None` without either."""
    store = services.store
    try:
        return store.read(image.thumbnail_name)
    except ObjectMissing:
        pass
    try:
        describe_stored(image.object_name, owner=owner, services=services)
        return store.read(image.thumbnail_name)
    except (ObjectMissing, ProviderError):
        return None


def book_receipts(records: Iterable[AttemptRecord], *, owner: str, services: Services) -> int:
    """Book every attempt of unknown outcome whose image is in the bucket; returns how many."""
    unknown = (AttemptState.INTENT, AttemptState.ASSUMED)
    booked = 0
    for record in records:
        if record.state not in unknown or record.image is not None:
            continue
        receipt = _find_receipt(record, owner=owner, services=services)
        if receipt is None:
            continue
        found = _described(receipt.name, owner=owner, services=services)
        refusal = found if isinstance(found, ProviderError) else None
        services.ledger.capture(
            record,
            cost=receipt.cost,
            cost_basis=receipt.cost_basis,
            image=found if isinstance(found, StoredImage) else None,
            code=refusal.code if refusal else "",
            detail=str(refusal) if refusal else "",
            latency_ms=receipt.latency_ms,
        )
        booked += 1
    return booked


def _described(name: str, *, owner: str, services: Services) -> StoredImage | ProviderError:
    # The limits of a release may refuse what the one before it took; its cost is known all the same.
    try:
        return describe_stored(name, owner=owner, services=services)
    except ProviderError as error:
        return error


def _find_receipt(record: AttemptRecord, *, owner: str, services: Services) -> Receipt | None:
    for found in services.store.list(image_prefix(owner, record.image_id)):
        if found.metadata.get("attempt_id") == record.attempt_id:
            return _receipt(found)
    return None


def _receipt(found: ObjectInfo) -> Receipt | None:
    """The receipt, `None` where somebody changed it: then its attempt is assumed, as without one."""
    told = found.metadata
    try:
        cost, latency_ms = Money(int(told["cost_micros"])), int(told["latency_ms"])
        if cost >= ZERO and latency_ms in _LATENCIES_MS and told["cost_basis"] in _BASES:
            return Receipt(
                name=found.name,
                cost=cost,
                cost_basis=told["cost_basis"],
                latency_ms=latency_ms,
            )
    except (KeyError, ValueError):
        pass
    # One damaged object must not keep money held, here and of all who are recovered with it.
    logger.error("the receipt of %s cannot be read", found.name)
    return None
