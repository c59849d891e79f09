"""Which URLs gave which stored reference images of an owner, so that they are not sent again.

A URL is known by its hash alone, because it may hold a signature; an image by its content,
from which its name under the owner's folder follows.
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from assetgen_pipeline.domain.bucket_layout import reference_name, suffix_of_type
from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.references import StoredReference, Validators, content_fingerprint

MAX_ENTRIES = 20_000
_MAX_VALIDATOR_CHARACTERS = 200
_Sha256 = Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]
_MimeType = Annotated[str, Field(pattern="^(" + "|".join(suffix_of_type) + ")$")]


class KnownReference(Value):
    """The image that a URL gave, and what its server identifies it by."""

    sha256: _Sha256
    """Of the bytes as fetched."""
    mime_type: _MimeType
    width: int
    height: int
    validators: Validators

    def stored(self, owner: str) -> StoredReference:
        """Where the image stands in the bucket."""
        return StoredReference(
            fingerprint=content_fingerprint(self.sha256),
            object_name=reference_name(owner, self.sha256, self.mime_type),
            mime_type=self.mime_type,
            width=self.width,
            height=self.height,
        )


class ReferenceIndex(Value):
    """What is known of an owner's URLs; the newest entries stand last, the oldest go first."""

    entries: dict[_Sha256, KnownReference] = Field(default_factory=dict)

    def get(self, url: str) -> KnownReference | None:
        """What a URL gave when it was last fetched."""
        return self.entries.get(_key(url))

    def learnt(self, news: Mapping[str, KnownReference]) -> "ReferenceIndex":
        """The index with what the URLs of `news` gave; the oldest entries beyond the limit go."""
        fresh = {_key(url): known for url, known in news.items()}
        kept = {key: known for key, known in self.entries.items() if key not in fresh}
        entries = list((kept | fresh).items())
        return ReferenceIndex(entries=dict(entries[-MAX_ENTRIES:]))


def known_reference(reference: StoredReference, validators: Validators) -> KnownReference | None:
    """What to remember of a fetched image; `None` where nobody could be asked about it later."""
    texts = (validators.etag, validators.last_modified)
    if not validators or any(
        len(text) > _MAX_VALIDATOR_CHARACTERS or not text.isascii() or not text.isprintable()
        for text in texts
    ):
        return None
    return KnownReference(
        sha256=reference.fingerprint.rpartition(":")[2],
        mime_type=reference.mime_type,
        width=reference.width,
        height=reference.height,
        validators=validators,
    )


def _key(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()
