"""Orders and pauses that a running batch meets when it reports its progress."""

import json
from datetime import timedelta

import pytest

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.pauses import Pause
from assetgen_pipeline.stages.pausing import change_pauses
from assetgen_pipeline.stages.progress import EVERY_S
from assetgen_pipeline_tests.builders import BATCH_ID
from assetgen_pipeline_tests.stage_bench import Bench, some_requests
from assetgen_pipeline_tests.watched_batches import a_progress, watched

FOLDER = BatchFolder(BATCH_ID)


def control(bench, action):
    data = json.dumps({"action": action}).encode()
    bench.store.write(FOLDER.control, data, content_type="application/json")


def pause(bench, **what):
    wanted = Pause(by="ops", at=bench.clock.now(), **what)
    change_pauses(lambda known: known.with_pause(wanted), store=bench.store)


def test_without_a_stop_marker_the_batch_goes_on():
    _, _, progress = watched()

    progress.report()

    assert progress.stop_code() == ""


def test_a_stop_marker_is_looked_for_as_often_as_reports_are_made():
    bench, _, progress = watched()
    progress.report()
    control(bench, "cancel")
    progress.report()
    before = progress.stop_code()
    bench.clock.advance(timedelta(seconds=EVERY_S))

    progress.report()

    assert (before, progress.stop_code()) == ("", "cancelled")


def test_an_order_to_stop_once_seen_is_never_forgotten():
    bench, _, progress = watched()
    control(bench, "cancel")
    progress.report()
    bench.store.delete(FOLDER.control)
    bench.clock.advance(timedelta(minutes=1))

    progress.report()

    assert progress.stop_code() == "cancelled"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"scope": "all"}, "paused"),
        ({"scope": "owner", "name": "studio"}, "paused"),
        ({"scope": "provider", "name": "local"}, "paused"),
        ({"scope": "owner", "name": "local"}, ""),
        ({"scope": "provider", "name": "studio"}, ""),
    ],
)
def test_a_pause_of_the_owner_the_provider_or_everything_stops_the_batch(wanted, expected):
    bench = Bench()
    batch = bench.open(*some_requests(1))
    pause(bench, **wanted)
    progress = a_progress(bench, batch)

    progress.report()

    assert progress.stop_code() == expected


def test_a_batch_that_is_cancelled_and_paused_is_cancelled():
    bench, _, progress = watched()
    control(bench, "cancel")
    pause(bench, scope="all")

    progress.report()

    assert progress.stop_code() == "cancelled"


def test_a_process_that_is_to_end_starts_no_further_image_whatever_is_read_meanwhile():
    bench, _, progress = watched()

    first, second = progress.interrupt(), progress.interrupt()
    bench.clock.advance(timedelta(minutes=1))
    progress.report()

    assert (first, second) == (True, False)
    assert progress.stop_code() == "interrupted"


def test_a_batch_that_a_pause_stops_is_interrupted_once_all_the_same():
    bench, _, progress = watched()
    pause(bench, scope="all")
    progress.report()

    assert (progress.interrupt(), progress.interrupt()) == (True, False)
    assert progress.stop_code() == "paused"


def test_a_batch_that_is_cancelled_already_is_ended_at_once():
    bench, _, progress = watched()
    control(bench, "cancel")
    progress.report()

    assert not progress.interrupt()
    assert progress.stop_code() == "cancelled"


def test_a_marker_that_asks_for_something_else_stops_nothing():
    bench, _, progress = watched()
    control(bench, "dance")

    progress.report()

    assert progress.stop_code() == ""


async def test_a_cancelled_batch_starts_no_further_image():
    bench, batch, progress = watched(4)
    control(bench, "cancel")

    report = await bench.generate(
        batch, concurrency=1, should_stop=progress.stop_code, on_progress=progress.report
    )

    assert (report.generated, report.not_attempted) == (0, 4)
    assert report.stopped.code == "cancelled"
