"""What requests to hosted providers have in common: references, their types, seeds."""

import hashlib
from collections.abc import Sequence

from assetgen_pipeline.domain.budget import AttemptToken
from assetgen_pipeline.domain.generation import ErrorKind, PlannedImage, ProviderError
from assetgen_pipeline.domain.pricing import ModelPrice

_MAX_SEED = 2**31


def check_references(references: Sequence[bytes], price: ModelPrice) -> None:
    """Refuse, before anything is sent, references that would be dropped or turned away.

    Raises:
        ProviderError: of kind `invalid_request`.
    """
    capabilities = price.capabilities
    carried = sum(len(reference) for reference in references) * 4 // 3
    if references and not capabilities.edits:
        message = f"{price.model} takes no reference images"
    elif len(references) > price.max_references:
        message = f"{price.model} takes {price.max_references} reference images at most"
    elif carried > capabilities.max_request_bytes:
        message = f"the reference images pass what {price.model} takes in one request"
    else:
        return
    raise ProviderError(message, kind=ErrorKind.INVALID_REQUEST)


def sniffed_type(data: bytes) -> str:
    """The media type that the bytes themselves show."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return "image/png"


def seed_of(image: PlannedImage, token: AttemptToken) -> int:
    """A seed by content address and attempt: repeatable, and new when an image is tried again."""
    digest = hashlib.sha256(f"{image.image_id}:{token.attempt_no}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % _MAX_SEED
