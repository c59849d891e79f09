"""Pauses in the bucket: read by the inbox sensor and by every running batch, without a redeploy."""

from collections.abc import Callable
from datetime import UTC, datetime

from pydantic import ValidationError

from assetgen_pipeline.domain.errors import ObjectChanged, ObjectMissing, StorageUnavailable
from assetgen_pipeline.domain.pauses import PAUSE_OBJECT, Pause, PauseState
from assetgen_pipeline.ports.object_store import ObjectStore

_TRIES = 8
# Nobody may spend because a file of ours was damaged; `resume --all` writes it anew.
_UNREADABLE = PauseState(
    pauses=(
        Pause(
            scope="all",
            by="assetgen",
            at=datetime.min.replace(tzinfo=UTC),
            why=f"{PAUSE_OBJECT} cannot be read; `assetgen resume --all` writes it anew",
        ),
    )
)


def read_pauses(*, store: ObjectStore) -> PauseState:
    """The pauses in force; everything is paused where the file cannot be read."""
    return _read(store)[0]


def change_pauses(change: Callable[[PauseState], PauseState], *, store: ObjectStore) -> PauseState:
    """Change the pauses, also while others do; returns those that are then in force.

    Raises:
        StorageUnavailable: too many others change them at once.
    """
    for _ in range(_TRIES):
        state, generation = _read(store)
        wanted = change(state)
        if wanted == state and state is not _UNREADABLE:
            return state
        try:
            store.write(
                PAUSE_OBJECT,
                wanted.model_dump_json(indent=1).encode(),
                content_type="application/json",
                if_generation=generation,
            )
        except ObjectChanged:
            continue
        return wanted
    raise StorageUnavailable("the pauses are being changed by others; try again")


def _read(store: ObjectStore) -> tuple[PauseState, int]:
    """The state and the generation that it stands at, 0 where there is no file."""
    info = store.stat(PAUSE_OBJECT)
    if info is None:
        return PauseState(), 0
    try:
        return PauseState.model_validate_json(store.read(PAUSE_OBJECT)), info.generation
    except ObjectMissing:
        return PauseState(), 0
    except ValidationError:
        return _UNREADABLE, info.generation
