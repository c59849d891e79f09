"""Progress of a running batch."""

import json
import logging
from datetime import timedelta

import pytest

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import BatchNotFound
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.stages.progress import EVERY_S, Progress
from assetgen_pipeline_tests.builders import BATCH_ID, RUN_ID
from assetgen_pipeline_tests.stage_bench import Bench, some_requests

FOLDER = BatchFolder(BATCH_ID)


def watched(count=2):
    bench = Bench()
    batch = bench.open(*some_requests(count))
    return bench, batch, Progress(batch, run_id=RUN_ID, services=bench.services)


def control(bench, action):
    data = json.dumps({"action": action}).encode()
    bench.store.write(FOLDER.control, data, content_type="application/json")


def writes(bench):
    return bench.store.calls.count(("write", FOLDER.status))


def test_nothing_is_written_before_the_first_report():
    bench, _, _ = watched()

    with pytest.raises(BatchNotFound):
        read_status(BATCH_ID, store=bench.store)


async def test_the_first_report_is_written_at_once(caplog):
    bench, batch, progress = watched()
    await bench.shard_of(batch, count=1)
    caplog.set_level(logging.INFO)

    progress.report()

    status = read_status(BATCH_ID, store=bench.store)
    assert (status.state, status.run_id, status.rows) == (BatchState.RUNNING, RUN_ID, 2)
    assert (status.images.delivered, status.images.not_attempted) == (1, 1)
    assert status.spent_usd == "0.002000"
    assert BATCH_ID in caplog.text


@pytest.mark.parametrize(("after_s", "expected"), [(EVERY_S - 0.001, 1), (EVERY_S, 2)])
def test_a_report_is_written_again_only_once_it_is_time(after_s, expected):
    bench, _, progress = watched()
    progress.report()
    bench.clock.advance(timedelta(seconds=after_s))

    progress.report()

    assert writes(bench) == expected


def test_a_wall_clock_put_back_does_not_hold_reports_up():
    bench, _, progress = watched()
    progress.report()
    bench.clock.advance(timedelta(seconds=EVERY_S))
    bench.clock.set(bench.clock.now() - timedelta(days=1))

    progress.report()

    assert writes(bench) == 2


def test_without_a_stop_marker_the_batch_goes_on():
    _, _, progress = watched()

    progress.report()

    assert progress.stop_code() == ""


def test_a_stop_marker_is_seen_with_the_next_report():
    bench, _, progress = watched()
    progress.report()
    control(bench, "cancel")
    before = progress.stop_code()
    bench.clock.advance(timedelta(seconds=EVERY_S))

    progress.report()

    assert (before, progress.stop_code()) == ("", "cancelled")


def test_a_marker_that_asks_for_something_else_stops_nothing():
    bench, _, progress = watched()
    control(bench, "pause")

    progress.report()

    assert progress.stop_code() == ""


async def test_a_cancelled_batch_starts_no_further_image():
    bench, batch, progress = watched(4)
    control(bench, "cancel")

    report = await bench.generate(
        batch, concurrency=1, should_stop=progress.stop_code, on_progress=progress.report
    )

    assert (report.generated, report.not_attempted) == (1, 3)
    assert report.stopped_by == "cancelled"
