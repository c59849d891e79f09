"""Completeness (I8): the bucket's images and the ledger's captured attempts, both ways.

The ledger alone cannot know it, and neither can the bucket.
"""

from collections.abc import Iterable

from assetgen_pipeline.domain.bucket_layout import BatchFolder, owner_of
from assetgen_pipeline.domain.budget import AttemptState, BookedImage, InvariantCheck
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.ports.ledger import Ledger
from assetgen_pipeline.ports.object_store import ObjectInfo, ObjectStore

NAME = "I8"
SENTENCE = "Every stored image is booked to the attempt it names, and every booked image is stored."
IMAGES = "images/"
# An image whose attempt is open is between upload and booking.
_SOUND = (AttemptState.CAPTURED, AttemptState.INTENT)


def check_completeness(*, store: ObjectStore, ledger: Ledger) -> InvariantCheck:
    """Compare the whole bucket; a batch that was purged has no images any more.

    A bucket that cannot be read is a violation: nothing was proven.
    """
    # In this order, because an image is stored before it is booked.
    booked = ledger.booked_images()
    return _compared(booked, [IMAGES], store=store, ledger=ledger)


def check_batch_completeness(
    batch_id: str, *, store: ObjectStore, ledger: Ledger
) -> InvariantCheck:
    """Compare one batch's images, listing only the folders that they are in."""
    booked = ledger.booked_images(batch_id=batch_id)
    own = f"{IMAGES}{owner_of(batch_id)}/"
    folders = {one.object_name.rpartition("/")[0] + "/" for one in booked}
    prefixes = sorted(folder for folder in folders if folder.startswith(own))
    return _compared(booked, prefixes, store=store, ledger=ledger)


def _compared(
    booked: Iterable[BookedImage], prefixes: Iterable[str], *, store: ObjectStore, ledger: Ledger
) -> InvariantCheck:
    try:
        stored = {found.name: found for prefix in prefixes for found in store.list(prefix)}
        missing = _not_purged([one for one in booked if one.object_name not in stored], store)
    except StorageUnavailable as error:
        return unchecked(error)
    told = [f"{one.object_name} is booked by {one.batch_id} and not stored" for one in missing]
    return _check([*told, *_unbooked(stored.values(), ledger)])


def _not_purged(missing: list[BookedImage], store: ObjectStore) -> list[BookedImage]:
    """Those whose batch still stands in the outbox; a purge takes its file last."""
    batches = {one.batch_id for one in missing}
    standing = {batch for batch in batches if store.stat(BatchFolder(batch).request) is not None}
    return [one for one in missing if one.batch_id in standing]


def unchecked(error: StorageUnavailable) -> InvariantCheck:
    """What is said where the bucket cannot be read."""
    return _check([f"not checked: {error.code}: {error}"])


def _unbooked(stored: Iterable[ObjectInfo], ledger: Ledger) -> list[str]:
    named = {found.name: found.metadata.get("attempt_id", "") for found in stored}
    states = ledger.attempt_states([name for name in named.values() if name])
    return [
        f"{name} is stored and its attempt {_told(states.get(attempt_id))}"
        for name, attempt_id in named.items()
        if states.get(attempt_id) not in _SOUND
    ]


def _told(state: AttemptState | None) -> str:
    return "is not in the ledger" if state is None else f"is {state.value}"


def _check(violations: list[str]) -> InvariantCheck:
    return InvariantCheck(name=NAME, sentence=SENTENCE, violations=tuple(violations))
