"""Pauses in the bucket, changed by many at once."""

from datetime import timedelta

import pytest

from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.domain.pauses import PAUSE_OBJECT, Pause, PauseState
from assetgen_pipeline.stages.pausing import change_pauses, read_pauses
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline_tests.builders import NOW


def a_pause(name, **changes):
    return Pause(**{"scope": "owner", "name": name, "by": "ops", "at": NOW, **changes})


def put(store, *pauses):
    for pause in pauses:
        change_pauses(lambda known, pause=pause: known.with_pause(pause), store=store)


class Raced(InMemoryObjectStore):
    """A bucket in which somebody else pauses an owner before each write of ours."""

    def __init__(self, times):
        super().__init__()
        self.rivals = [a_pause(f"rival{n}") for n in range(times)]

    def write(self, name, data, **options):
        if self.rivals:
            state = read_pauses(store=self).with_pause(self.rivals.pop())
            super().write(name, state.model_dump_json().encode(), content_type="application/json")
        return super().write(name, data, **options)


class Vanishing(InMemoryObjectStore):
    """A bucket from which the file is deleted between a look at it and its reading."""

    def stat(self, name):
        found = super().stat(name)
        self.delete(name)
        return found


def test_nothing_is_paused_where_nobody_has_paused_anything():
    assert read_pauses(store=InMemoryObjectStore()) == PauseState()


def test_a_pause_is_in_force_for_whoever_looks_next():
    store = InMemoryObjectStore()

    put(store, a_pause("ada"), a_pause("ben"))

    assert [pause.name for pause in read_pauses(store=store).pauses] == ["ada", "ben"]


def test_a_change_that_changes_nothing_writes_nothing():
    store = InMemoryObjectStore()
    put(store, a_pause("ada"))
    before = store.stat(PAUSE_OBJECT).generation

    put(store, a_pause("ada", at=NOW + timedelta(hours=1)))

    assert store.stat(PAUSE_OBJECT).generation == before


def test_a_pause_of_somebody_else_at_the_same_moment_is_not_lost():
    store = Raced(3)

    put(store, a_pause("ada"))

    names = {pause.name for pause in read_pauses(store=store).pauses}
    assert names == {"ada", "rival0", "rival1", "rival2"}


def test_a_race_that_never_ends_is_given_up_and_said():
    with pytest.raises(StorageUnavailable, match="try again"):
        put(Raced(100), a_pause("ada"))


def test_a_file_that_cannot_be_read_pauses_everything_until_all_is_resumed():
    store = InMemoryObjectStore()
    store.write(PAUSE_OBJECT, b"{oops", content_type="application/json")

    stopping = read_pauses(store=store).stopping("anybody", "local")
    change_pauses(lambda known: known.without("all", ""), store=store)

    assert "cannot be read" in stopping.why
    assert read_pauses(store=store) == PauseState()


def test_a_file_deleted_while_it_is_looked_at_pauses_nothing():
    store = Vanishing()
    store.write(PAUSE_OBJECT, PauseState().model_dump_json().encode(), content_type="x/y")

    assert read_pauses(store=store) == PauseState()
