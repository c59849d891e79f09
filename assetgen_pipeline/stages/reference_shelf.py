"""An owner's reference images in the bucket, and what is known of where they came from.

Images stand under the owner's folder by the hash of the bytes that came, re-encoded. The
index beside them lets a server be asked whether its bytes changed, instead of sending
them again, and an object of our bucket be taken as known by its generation.
"""

import hashlib
import logging
from contextlib import suppress

from pydantic import ValidationError

from assetgen_pipeline.domain.bucket_layout import reference_index_name, reference_name
from assetgen_pipeline.domain.errors import (
    ObjectChanged,
    ObjectExists,
    ObjectMissing,
    ReferenceUnfetched,
)
from assetgen_pipeline.domain.reference_index import (
    KnownReference,
    ReferenceIndex,
    known_reference,
)
from assetgen_pipeline.domain.references import (
    FetchedBytes,
    StoredReference,
    Validators,
    content_fingerprint,
    url_label,
)
from assetgen_pipeline.ports.images import ImageCodec
from assetgen_pipeline.ports.object_store import ObjectInfo, ObjectStore

_log = logging.getLogger(__name__)
_MAX_OBJECT_BYTES = 20 * 1024 * 1024
_JSON = "application/json"


class ReferenceShelf:
    """Where references are kept; all calls block, and are safe from many threads."""

    def __init__(self, owner: str, *, store: ObjectStore, codec: ImageCodec) -> None:
        """Read the owner's index.

        Raises:
            StorageUnavailable: the bucket cannot be reached.
        """
        self.owner = owner
        self.store = store
        self._codec = codec
        self._index, _ = self._read_index()
        self._news: dict[str, KnownReference] = {}

    def prepare(self) -> None:
        """Get ready to decode, without waiting for it."""
        self._codec.prepare()

    def known(self, url: str) -> KnownReference | None:
        """What a URL gave before, where that image still stands.

        Raises:
            StorageUnavailable: the bucket cannot be reached.
        """
        known = self._index.get(url)
        if known is None or self.store.stat(known.stored(self.owner).object_name) is None:
            return None
        return known

    def keep(self, url: str, fetched: FetchedBytes) -> StoredReference:
        """Decode what a URL gave, store it re-encoded, and remember where it came from.

        Raises:
            ReferenceUnfetched: it is no image that we take.
            StorageUnavailable: the bucket cannot be reached.
        """
        decoded = self._codec.decode_reference(fetched.data)
        claimed = fetched.content_type.partition(";")[0].strip().lower()
        if claimed.startswith("image/") and claimed != decoded.source_type:
            _log.info("%s: sent as %.40r, is %s", url_label(url), claimed, decoded.source_type)
        sha256 = hashlib.sha256(fetched.data).hexdigest()
        name = reference_name(self.owner, sha256, decoded.mime_type)
        with suppress(ObjectExists):
            self.store.create(name, decoded.data, content_type=decoded.mime_type)
        reference = StoredReference(
            fingerprint=content_fingerprint(sha256),
            object_name=name,
            mime_type=decoded.mime_type,
            width=decoded.width,
            height=decoded.height,
        )
        known = known_reference(reference, fetched.validators)
        if known is not None:
            self._news[url] = known
        return reference

    def object(self, name: str) -> StoredReference:
        """Take an object of the bucket as a reference.

        Raises:
            ReferenceUnfetched: it is missing, too large, or no image that we take.
            StorageUnavailable: the bucket cannot be reached.
        """
        info = self.store.stat(name)
        if info is None:
            raise ReferenceUnfetched("no such object in the bucket")
        return self.found(info)

    def found(self, info: ObjectInfo) -> StoredReference:
        """Take an object that was just listed as a reference.

        Raises:
            ReferenceUnfetched: it is gone, too large, or no image that we take.
            StorageUnavailable: the bucket cannot be reached.
        """
        url = f"gs://{self.store.bucket}/{info.name}"
        generation = Validators(etag=str(info.generation))
        known = self.known(url)
        if known is not None and known.validators == generation:
            return known.stored(self.owner)
        if info.size > _MAX_OBJECT_BYTES:
            message = f"larger than {_MAX_OBJECT_BYTES} bytes"
            raise ReferenceUnfetched(message, code="reference-too-large")
        try:
            data = self.store.read(info.name, generation=info.generation)
        except ObjectMissing as error:
            raise ReferenceUnfetched("no such object in the bucket") from error
        fetched = FetchedBytes(data=data, content_type=info.content_type, validators=generation)
        return self.keep(url, fetched)

    def remember(self) -> None:
        """Write what was learnt to the owner's index, beside what other runs wrote meanwhile.

        Raises:
            StorageUnavailable: the bucket cannot be reached.
        """
        while self._news:
            index, generation = self._read_index()
            try:
                self.store.write(
                    reference_index_name(self.owner),
                    index.learnt(self._news).model_dump_json().encode(),
                    content_type=_JSON,
                    if_generation=generation,
                )
            except ObjectChanged:
                continue
            self._news = {}

    def _read_index(self) -> tuple[ReferenceIndex, int]:
        name = reference_index_name(self.owner)
        info = self.store.stat(name)
        if info is None:
            return ReferenceIndex(), 0
        try:
            data = self.store.read(name, generation=info.generation)
            return ReferenceIndex.model_validate_json(data), info.generation
        except ObjectMissing:
            return self._read_index()
        except ValidationError:
            # It only saves work, so it is begun again rather than mended.
            _log.warning("%s is not an index of ours and will be replaced", name)
            return ReferenceIndex(), info.generation
