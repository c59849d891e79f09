"""What `watch` draws: bars on a terminal, lines elsewhere."""

import io
from datetime import timedelta

import pytest
from rich.console import Console

from assetgen_pipeline.cli.progress_display import (
    BarDisplay,
    Pace,
    PlainDisplay,
    Snapshot,
    details,
    open_display,
    stage_bars,
)
from assetgen_pipeline.domain.progress import BatchProgress
from assetgen_pipeline.domain.status import BatchState, BatchStatus, ImageCounts
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline_tests.builders import BATCH_ID, NOW


def a_status(state=BatchState.RUNNING, *, delivered=0, failed=0, requested=100, **changes):
    images = ImageCounts(
        requested=requested,
        delivered=delivered,
        failed=failed,
        not_attempted=requested - delivered - failed,
    )
    return BatchStatus(
        **{
            "batch_id": BATCH_ID,
            "owner": "studio",
            "state": state,
            "mode": "normal",
            "images": images,
            "estimate_usd": "3.900000",
            "spent_usd": "2.310000",
            "updated_at": NOW.isoformat(),
            "outbox": "gs://b/o",
            **changes,
        }
    )


def bars(snapshot):
    return {bar.name: (bar.done, bar.total) for bar in stage_bars(snapshot)}


@pytest.mark.parametrize(
    ("state", "progress", "expected"),
    [
        (BatchState.RECEIVED, None, {"file": 0, "references": 0, "delivery": 0}),
        (
            BatchState.RESERVED,
            BatchProgress(stage="references", done=3, total=4),
            {"file": 1, "references": 0.75, "delivery": 0},
        ),
        (
            BatchState.RESERVED,
            BatchProgress(stage="references"),
            {"file": 1, "references": 0, "delivery": 0},
        ),
        (
            BatchState.RUNNING,
            BatchProgress(stage="images", done=61, total=100),
            {"file": 1, "references": 1, "images": 0.61, "delivery": 0},
        ),
        (
            BatchState.RUNNING,
            BatchProgress(stage="delivery"),
            {"file": 1, "references": 1, "images": 0.61, "delivery": 0},
        ),
        # What an earlier run left behind says nothing of a batch that begins anew.
        (
            BatchState.VALIDATING,
            BatchProgress(stage="delivery"),
            {"file": 0, "references": 0, "delivery": 0},
        ),
    ],
)
def test_stages_behind_are_full_and_stages_ahead_are_empty(state, progress, expected):
    found = bars(Snapshot(a_status(state, delivered=58, failed=3), progress))

    assert {name: done / total for name, (done, total) in found.items() if name in expected} == (
        expected
    )


def test_images_ended_before_a_retry_are_not_counted_as_work_to_do():
    found = bars(Snapshot(a_status(BatchState.RECEIVED, delivered=40), None))

    assert found["images"] == (40, 100)


def test_the_time_left_follows_the_pace_since_the_first_look():
    clock = ManualClock(NOW)
    pace = Pace(clock)
    first = pace.seconds_left(a_status(delivered=40))
    clock.advance(timedelta(seconds=30))

    left = pace.seconds_left(a_status(delivered=55))

    assert (first, left) == (None, 90.0)


def test_a_count_that_falls_back_starts_the_pace_anew():
    clock = ManualClock(NOW)
    pace = Pace(clock)
    pace.seconds_left(a_status(delivered=90))
    clock.advance(timedelta(seconds=30))
    pace.seconds_left(a_status(delivered=10))
    clock.advance(timedelta(seconds=10))

    assert pace.seconds_left(a_status(delivered=20)) == 80.0


def test_money_time_reasons_and_what_holds_it_up_are_said():
    progress = BatchProgress(
        stage="images", errors={"provider-blocked": 2}, retried={"provider-rate-limited": 3}
    )

    running = list(details(Snapshot(a_status(), progress), 250))
    held = list(details(Snapshot(a_status(), progress, "owner ada is paused"), 250))

    assert running == [
        "$2.310000 of at most $3.900000   about 4:10 left",
        "provider-blocked 2   trying again: provider-rate-limited 3",
    ]
    assert held == [
        "$2.310000 of at most $3.900000",
        "provider-blocked 2   trying again: provider-rate-limited 3",
        "owner ada is paused",
    ]


def test_without_an_estimate_only_what_is_spent_is_said():
    status = a_status(estimate_usd=None, spent_usd=None)

    assert list(details(Snapshot(status), None)) == ["$0"]


def test_where_there_is_no_terminal_a_line_is_printed_per_change(capsys):
    display = PlainDisplay()
    progress = BatchProgress(stage="images", errors={"provider-blocked": 1})
    for snapshot in (
        Snapshot(a_status(delivered=1)),
        Snapshot(a_status(delivered=1)),
        Snapshot(a_status(delivered=2), progress, "owner ada is paused"),
    ):
        display.show(snapshot)
    display.close()

    first, second = capsys.readouterr().err.splitlines()
    assert "1/100 images" in first
    assert "2/100 images" in second
    assert "provider-blocked 1" in second
    assert "owner ada is paused" in second


def test_a_batch_that_waits_for_approval_is_shown_with_the_images_asked_for(capsys):
    waits = a_status(BatchState.AWAITING_APPROVAL, requested=16, rows=12)

    PlainDisplay().show(Snapshot(waits))

    assert "16 images  at most $3.900000" in capsys.readouterr().err


def test_on_a_terminal_bars_are_drawn_in_place_and_taken_away():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    display = BarDisplay(ManualClock(NOW), console)
    progress = BatchProgress(stage="images", done=61, total=100, errors={"provider-blocked": 3})

    display.show(Snapshot(a_status(delivered=58, failed=3), progress))
    display.say("bucket unreachable; trying again")
    display.show(Snapshot(a_status(delivered=59, failed=3), progress))
    display.close()

    drawn = screen.getvalue()
    assert all(stage in drawn for stage in ("file", "references", "images", "delivery"))
    assert "61/100" in drawn
    assert "62/100" in drawn
    assert "provider-blocked 3" in drawn
    assert "bucket unreachable; trying again" in drawn


def test_without_a_terminal_lines_are_chosen(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.StringIO())

    assert isinstance(open_display(ManualClock(NOW)), PlainDisplay)
