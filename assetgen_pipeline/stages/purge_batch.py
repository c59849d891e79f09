"""Purge a batch: its objects go; the ledger and the cost facts, which are books, stay.

Images and references are named by content and may serve other batches of the owner: what
another batch that still exists uses is kept, and goes with the last of them.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from assetgen_pipeline.domain.bucket_layout import (
    EXPIRY_INDEX,
    OUTBOX,
    BatchFolder,
    is_batch_id,
    owner_of,
    parse_expiry,
)
from assetgen_pipeline.domain.errors import BatchBusy, BatchNotFound, ObjectMissing
from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.problems import fix_naming
from assetgen_pipeline.domain.status import BatchState, is_terminal
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.stages.bounded import map_bounded
from assetgen_pipeline.stages.services import Services

AT_ONCE = 16
_BETWEEN_LOOKS = 200
_KINDS = ("images", "thumbnails", "references", "artifacts", "index", "outbox")


class Purged(Value):
    """What was deleted of a batch, by the first folder of its name, and what stays."""

    batch_id: str
    deleted: dict[str, int]
    kept_shared: int
    """Images, thumbnails and references that another batch uses."""


@dataclass(frozen=True, slots=True)
class PurgePlan:
    """The objects to delete, in an order that a second purge can take up anywhere."""

    batch_id: str
    names: tuple[str, ...]
    kept: tuple[str, ...]

    @property
    def report(self) -> Purged:
        """What the plan deletes."""
        folders = [name.partition("/")[0] for name in self.names]
        return Purged(
            batch_id=self.batch_id,
            deleted={kind: folders.count(kind) for kind in _KINDS},
            kept_shared=len(self.kept),
        )


async def plan_purge(batch_id: str, *, services: Services) -> PurgePlan:
    """Find what is the batch's alone; nothing is changed.

    Raises:
        BatchNotFound: neither bucket nor ledger knows it.
        BatchBusy: it is under way, or another batch of its owner is and may reuse its images.
    """
    store, owner = services.store, owner_of(batch_id)
    files = await _listed(BatchFolder(batch_id).prefix, services)
    artifacts = await _listed(f"artifacts/{batch_id}/", services)
    attempts = await asyncio.to_thread(services.ledger.attempts, batch_id)
    if not files and not artifacts and not attempts:
        message = f"no batch {batch_id}"
        raise BatchNotFound(message)
    others = await asyncio.to_thread(_other_batches, owner, batch_id, services)
    await _refuse_live(batch_id, others, services)
    images = {a.image_id: a.image for a in attempts if a.image is not None}
    users = await asyncio.to_thread(services.ledger.image_users, owner, list(images))
    pictures: list[str] = []
    kept: list[str] = []
    for image_id, image in images.items():
        names = [image.object_name, image.thumbnail_name]
        (kept if users.get(image_id, set()) & set(others) else pictures).extend(names)
    mine, shared = await _references(artifacts, owner, others, services)
    found = await map_bounded(
        lambda name: asyncio.to_thread(store.stat, name),
        [*pictures, *mine],
        limit=AT_ONCE,
    )
    index = [
        name
        for name in await _listed(EXPIRY_INDEX, services)
        if (parsed := parse_expiry(name)) and parsed[1] == batch_id
    ]
    waiting = BatchFolder(batch_id).waiting
    if await asyncio.to_thread(store.stat, waiting):
        index.append(waiting)
    standing = [info.name for info in found if info is not None]
    return PurgePlan(batch_id, (*index, *standing, *artifacts, *files), (*kept, *shared))


async def purge_batch(
    plan: PurgePlan, *, services: Services, see_it_goes_on: Callable[[], None] = lambda: None
) -> Purged:
    """Delete what the plan names; what is gone already is no error.

    `see_it_goes_on` is called between any two hundred deletions, and raises where the plan may
    no longer be right.

    Raises:
        StorageUnavailable: some objects are left; purging again deletes the rest.
    """
    outbox = BatchFolder(plan.batch_id).prefix
    # The batch's own files last: as long as they stand, the batch is known and purged again.
    for names in (
        [name for name in plan.names if not name.startswith(outbox)],
        [name for name in plan.names if name.startswith(outbox)],
    ):
        for first in range(0, len(names), _BETWEEN_LOOKS):
            await asyncio.to_thread(see_it_goes_on)
            await map_bounded(
                lambda name: asyncio.to_thread(services.store.delete, name),
                names[first : first + _BETWEEN_LOOKS],
                limit=AT_ONCE,
            )
    return plan.report


async def _listed(prefix: str, services: Services) -> list[str]:
    found = await asyncio.to_thread(lambda: list(services.store.list(prefix)))
    return [info.name for info in found]


def _other_batches(owner: str, batch_id: str, services: Services) -> list[str]:
    """The owner's other batches that have files."""
    prefix = f"{OUTBOX}{owner}/"
    found = {o.name.removeprefix(prefix).partition("/")[0] for o in services.store.list(prefix)}
    return sorted(one for one in found if is_batch_id(one) and one != batch_id)


async def _refuse_live(batch_id: str, others: Sequence[str], services: Services) -> None:
    """One that waits for approval has made nothing yet, so it holds up no other's purge."""
    ids = [batch_id, *others]
    states = await map_bounded(
        lambda one: asyncio.to_thread(_state, one, services), ids, limit=AT_ONCE
    )
    for one, state in zip(ids, states, strict=True):
        if state is None or is_terminal(state):
            continue
        if one == batch_id:
            message = f"{batch_id} is {state.value}"
            raise BatchBusy(message)
        if state is not BatchState.AWAITING_APPROVAL:
            message = f"{one} is {state.value} and may be reusing images of {batch_id}"
            raise BatchBusy(message).with_fix(fix_naming(BatchBusy.fix, one))


def _state(batch_id: str, services: Services) -> BatchState | None:
    try:
        return read_status(batch_id, store=services.store).state
    except BatchNotFound:
        return None


async def _references(
    artifacts: Sequence[str], owner: str, others: Sequence[str], services: Services
) -> tuple[list[str], list[str]]:
    """The references that the batch stored: those that are its own, and those shared."""
    stored = await _named_in(artifacts, owner, services)
    if not stored:
        return [], []
    decisions = [BatchFolder(other).artifact("reference_images") for other in others]
    shared = stored & await _named_in(decisions, owner, services)
    return sorted(stored - shared), sorted(shared)


async def _named_in(artifacts: Sequence[str], owner: str, services: Services) -> set[str]:
    """Every reference object that these artifacts name, whatever their form."""
    pattern = re.compile(rb'"(references/%b/[0-9a-f]{64}\.[a-z]+)"' % owner.encode())

    def names(artifact: str) -> set[str]:
        try:
            found = pattern.findall(services.store.read(artifact))
        except ObjectMissing:
            return set()
        return {name.decode() for name in found}

    sets = await map_bounded(
        lambda artifact: asyncio.to_thread(names, artifact), artifacts, limit=AT_ONCE
    )
    return set().union(*sets)
