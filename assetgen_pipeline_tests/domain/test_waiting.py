"""What is due for a batch that waits."""

from datetime import timedelta

import pytest

from assetgen_pipeline.domain.pauses import Pause, PauseState
from assetgen_pipeline.domain.waiting import Waiting, what_is_due
from assetgen_pipeline_tests.builders import BATCH_ID, NOW, OWNER

WEEK = timedelta(days=7)


def due(cause, *, pauses=(), after=timedelta(0), provider="local"):
    waiting = Waiting(batch_id=BATCH_ID, owner=OWNER, cause=cause, since=NOW, provider=provider)
    paused = tuple(Pause(scope=scope, name=name, by="ops", at=NOW) for scope, name in pauses)
    state = PauseState(pauses=paused)
    return what_is_due(waiting, state, now=NOW + after, approval_expires=WEEK)


@pytest.mark.parametrize(
    ("after", "expected"),
    [(timedelta(0), "wait"), (WEEK - timedelta(seconds=1), "wait"), (WEEK, "expire")],
)
def test_approval_is_waited_for_until_its_time_is_up(after, expected):
    assert due("approval", after=after) == expected


def test_a_pause_does_not_keep_an_approval_from_expiring():
    assert due("approval", pauses=[("all", "")], after=WEEK) == "expire"


@pytest.mark.parametrize("cause", ["pause", "run"])
@pytest.mark.parametrize(
    ("pauses", "expected"),
    [
        ([], "run"),
        ([("owner", "other")], "run"),
        ([("owner", OWNER)], "wait"),
        ([("provider", "local")], "wait"),
        ([("all", "")], "wait"),
    ],
)
def test_what_only_needs_a_run_gets_it_as_soon_as_nothing_is_paused(cause, pauses, expected):
    assert due(cause, pauses=pauses, after=WEEK * 5) == expected
