"""Reference packs: folders of images in the bucket that every owner may use."""

import asyncio
import itertools
import logging
from collections.abc import Iterator

from assetgen_pipeline.domain.bucket_layout import is_pack_id, pack_prefix
from assetgen_pipeline.domain.errors import ReferenceUnfetched
from assetgen_pipeline.domain.image_request import MAX_REFERENCES, BatchRequests
from assetgen_pipeline.domain.references import PackContent, StoredReference
from assetgen_pipeline.ports.images import ImageCodec
from assetgen_pipeline.ports.object_store import ObjectInfo, ObjectStore
from assetgen_pipeline.stages.bounded import map_bounded
from assetgen_pipeline.stages.reference_shelf import ReferenceShelf

_log = logging.getLogger(__name__)
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_MAX_IMAGES_LOOKED_AT = 50
_MAX_IMAGES_COUNTED = 1000
_PACKS_AT_ONCE = 4


async def load_packs(
    batch: BatchRequests, *, store: ObjectStore, codec: ImageCodec
) -> dict[str, PackContent]:
    """Read the packs that the batch names: the first images of each, kept as the owner's.

    Raises:
        StorageUnavailable: the bucket cannot be reached.
    """
    pack_ids = list(dict.fromkeys(row.ref_pack_id for row in batch.requests if row.ref_pack_id))
    if not pack_ids:
        return {}
    shelf = ReferenceShelf(batch.owner, store=store, codec=codec)

    async def load(pack_id: str) -> PackContent:
        return await asyncio.to_thread(_load_pack, pack_id, shelf)

    packs = await map_bounded(load, pack_ids, limit=_PACKS_AT_ONCE)
    shelf.remember()
    return dict(zip(pack_ids, packs, strict=True))


def _load_pack(pack_id: str, shelf: ReferenceShelf) -> PackContent:
    if not is_pack_id(pack_id):
        return PackContent(pack_id=pack_id, found=False, references=())
    used: dict[str, StoredReference] = {}
    dropped: list[str] = []
    images = _images(pack_id, shelf)
    first = list(itertools.islice(images, _MAX_IMAGES_LOOKED_AT))
    more = sum(1 for _ in itertools.islice(images, _MAX_IMAGES_COUNTED))
    for number, info in enumerate(first):
        # Six different ones are enough for a row, whatever it names itself.
        if len(used) == MAX_REFERENCES:
            more += len(first) - number
            break
        try:
            reference = shelf.found(info)
        except ReferenceUnfetched as error:
            _log.warning("%s is left out: %s: %s", info.name, error.code, error)
            dropped.append(f"{info.name}: {error.code}: {error}")
            continue
        if reference.fingerprint in used:
            dropped.append(f"{info.name}: same bytes as another image of the pack")
        used.setdefault(reference.fingerprint, reference)
    if more:
        dropped.append(f"{more} more of {pack_prefix(pack_id)}: more than {MAX_REFERENCES}")
    return PackContent(
        pack_id=pack_id, found=bool(first), references=tuple(used.values()), dropped=tuple(dropped)
    )


def _images(pack_id: str, shelf: ReferenceShelf) -> Iterator[ObjectInfo]:
    prefix = pack_prefix(pack_id)
    return (
        info
        for info in shelf.store.list(prefix)
        if info.name.lower().endswith(_IMAGE_SUFFIXES) and "/" not in info.name[len(prefix) :]
    )
