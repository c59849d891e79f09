"""Pauses: what they stop, and that saying the same twice changes nothing."""

import pytest

from assetgen_pipeline.domain.pauses import Pause, PauseState
from assetgen_pipeline_tests.builders import NOW


def a_pause(scope="owner", name="ada", **changes):
    return Pause(**{"scope": scope, "name": name, "by": "ops", "at": NOW, **changes})


@pytest.mark.parametrize(
    ("pause", "stopped"),
    [
        (a_pause("all", ""), True),
        (a_pause("owner", "ada"), True),
        (a_pause("owner", "ben"), False),
        (a_pause("provider", "gemini"), True),
        (a_pause("provider", "ada"), False),
        (a_pause("owner", "gemini"), False),
    ],
)
def test_a_pause_stops_the_batches_it_names(pause, stopped):
    assert pause.stops("ada", "gemini") is stopped


def test_a_batch_whose_provider_is_not_known_yet_is_stopped_by_no_pause_of_a_provider():
    state = PauseState(pauses=(a_pause("provider", "gemini"),))

    assert state.stopping("ada") is None


def test_pausing_twice_keeps_who_paused_first():
    first = a_pause(by="ann")

    state = PauseState().with_pause(first).with_pause(a_pause(by="bob"))

    assert state.pauses == (first,)
    assert state.find("owner", "ada") == first


def test_resuming_one_leaves_the_others():
    state = PauseState(pauses=(a_pause(), a_pause("provider", "ada"), a_pause("all", "")))

    left = state.without("owner", "ada")

    assert [(pause.scope, pause.name) for pause in left.pauses] == [
        ("provider", "ada"),
        ("all", ""),
    ]
    assert left.without("owner", "ada") == left


def test_resuming_everything_takes_every_pause_away():
    state = PauseState(pauses=(a_pause(), a_pause("provider", "gemini"), a_pause("all", "")))

    assert state.without("all", "") == PauseState()


@pytest.mark.parametrize(
    ("pause", "sentence"),
    [
        (a_pause(why="bill"), "owner ada is paused by ops since 2026-03-01T12:00:00+00:00: bill"),
        (a_pause("all", ""), "everything is paused by ops since 2026-03-01T12:00:00+00:00"),
    ],
)
def test_a_pause_says_who_what_when_and_why(pause, sentence):
    assert pause.sentence() == sentence
