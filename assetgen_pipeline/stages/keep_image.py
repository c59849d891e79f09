"""Keep what was paid for: the bytes into the bucket, with patience where it is down.

The image goes first, because its metadata is the receipt of the attempt; from then on
nothing is lost, and it can leave memory. A thumbnail can be made again from it at any time.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from assetgen_pipeline.domain.bucket_layout import image_name, thumbnail_name
from assetgen_pipeline.domain.budget import AttemptToken, StoredImage
from assetgen_pipeline.domain.errors import (
    AssetgenError,
    ObjectExists,
    ObjectMissing,
    StorageUnavailable,
)
from assetgen_pipeline.domain.generation import (
    ErrorKind,
    InspectedImage,
    PlannedImage,
    ProviderError,
    ProviderImage,
)
from assetgen_pipeline.stages.image_receipts import (
    create_thumbnail,
    describe_stored,
    receipt_metadata,
)
from assetgen_pipeline.stages.services import Services

T = TypeVar("T")

# Between tries of up to half a minute each: 8.5 minutes in all, with the image in memory.
STORAGE_WAITS_S = (2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 60.0, 60.0)


@dataclass(slots=True, kw_only=True)
class PaidImage:
    """An answer that is paid for, and the attempt that paid."""

    image: PlannedImage
    token: AttemptToken
    latency_ms: int
    bill: ProviderImage
    """The answer without its bytes."""
    data: bytes = field(repr=False)
    """The bytes, until they are let go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What became of a paid image's bytes."""

    image: StoredImage | None = None
    thumbnail: bytes = b""
    failure: AssetgenError | None = None
    """Why there is no image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What keeping needs, the same for all images of a shard."""

    owner: str
    services: Services
    decoding: asyncio.Semaphore
    """Lets as many decode as can without slowing one another: the first is then done first."""
    on_trouble: Callable[[int], None]
    """Gets 1 when waiting for the bucket begins and -1 when it ends: nothing is bought meanwhile."""


async def keep_image(paid: PaidImage, keeping: Keeping) -> Kept:
    """Store an image's bytes and let them go; waits for the bucket where it is down."""
    services = keeping.services
    try:
        async with keeping.decoding:
            facts = await asyncio.to_thread(services.codec.inspect, paid.data)
        stored = await _patiently(partial(_store, paid, facts, keeping), keeping)
        if stored is None:
            # Ours, where the answer to the upload was lost; or a former attempt at the same
            # request stored it: both are valid answers, and the first stays. It is read again,
            # so ours leaves memory.
            paid.data = b""
            name = image_name(keeping.owner, paid.image.image_id, facts.mime_type)
            stored = await _patiently(partial(_standing, name, keeping), keeping)
    except (ProviderError, StorageUnavailable) as error:
        return Kept(failure=error)
    return Kept(image=stored, thumbnail=facts.thumbnail)


async def keep_thumbnail(kept: Kept, keeping: Keeping) -> StorageUnavailable | None:
    """Store the thumbnail of a stored image; why it is not there, where it could not be."""
    if kept.image is None:
        return None
    name, store = kept.image.thumbnail_name, keeping.services.store
    try:
        await _patiently(partial(create_thumbnail, name, kept.thumbnail, store=store), keeping)
    except StorageUnavailable as error:
        return error
    return None


async def _patiently(step: Callable[[], T], keeping: Keeping) -> T:
    """Do a step in a thread, again and again while the bucket is down."""
    try:
        return await asyncio.to_thread(step)
    except StorageUnavailable as error:
        trouble = error
    keeping.on_trouble(1)
    try:
        for wait_s in STORAGE_WAITS_S:
            await keeping.services.clock.sleep(wait_s)
            try:
                return await asyncio.to_thread(step)
            except StorageUnavailable as error:
                trouble = error
    finally:
        keeping.on_trouble(-1)
    raise trouble


def _store(paid: PaidImage, facts: InspectedImage, keeping: Keeping) -> StoredImage | None:
    """Upload the image with its receipt; `None` where one is there already."""
    kept = StoredImage.of(
        paid.data,
        object_name=image_name(keeping.owner, paid.image.image_id, facts.mime_type),
        thumbnail_name=thumbnail_name(keeping.owner, paid.image.image_id),
        mime_type=facts.mime_type,
        size=(facts.width, facts.height),
    )
    metadata = receipt_metadata(paid.token, paid.bill, paid.latency_ms)
    store = keeping.services.store
    try:
        store.create(kept.object_name, paid.data, content_type=facts.mime_type, metadata=metadata)
    except ObjectExists:
        return None
    return kept


def _standing(name: str, keeping: Keeping) -> StoredImage:
    """The image that stands where ours should.

    Raises:
        ProviderError: it is gone; or it cannot be delivered, and has made room: else no attempt
            ever would be.
    """
    store = keeping.services.store
    gone = ProviderError(
        "the image was in the bucket already, and is gone", kind=ErrorKind.BAD_OUTPUT
    )
    info = store.stat(name)
    if info is None:
        raise gone
    try:
        return describe_stored(name, owner=keeping.owner, services=keeping.services)
    except ProviderError:
        store.delete(name, generation=info.generation)
        raise
    except ObjectMissing as error:
        raise gone from error
