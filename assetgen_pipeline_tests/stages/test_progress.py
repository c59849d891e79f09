"""Progress of a running batch: what is reported, and how often."""

import logging
from datetime import timedelta

import pytest

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import BatchNotFound
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.domain.tally import BatchTally
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.stages.progress import EVERY_S
from assetgen_pipeline.stages.stage_progress import (
    advance,
    note_wait,
    read_progress,
    report_delivery,
    write_progress,
)
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.ledger import InMemoryLedger
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, NOW, RUN_ID, an_attempt
from assetgen_pipeline_tests.stage_bench import Bench, some_requests
from assetgen_pipeline_tests.watched_batches import a_progress, watched

FOLDER = BatchFolder(BATCH_ID)


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


def test_how_far_the_batch_is_stands_beside_its_status():
    bench, batch, progress = watched(3)
    assert read_progress(batch.batch_id, store=bench.store) is None

    progress.report()

    found = read_progress(batch.batch_id, store=bench.store)
    assert (found.stage, found.done, found.total) == ("images", 0, 3)


async def test_failed_images_are_counted_by_their_reason():
    bench, batch, progress = watched(3)
    failure = ProviderError("no", kind=ErrorKind.CONTENT_BLOCKED)
    await bench.generate(batch, ScriptedProvider({"S2/1": [failure]}))

    progress.report()

    found = read_progress(batch.batch_id, store=bench.store)
    assert found.errors == {"provider-blocked": 1}
    assert found.done == 3


async def test_an_image_that_is_tried_again_counts_as_failed_only_once_it_is_given_up():
    bench, batch, progress = watched(3)
    lost = ProviderError("no answer", kind=ErrorKind.UNKNOWN_OUTCOME)
    refused = ProviderError("no", kind=ErrorKind.INVALID_REQUEST)
    seen = []

    def look():
        bench.clock.advance(timedelta(seconds=EVERY_S))
        progress.report()
        images = read_status(BATCH_ID, store=bench.store).images
        found = read_progress(BATCH_ID, store=bench.store)
        seen.append((images.delivered, images.failed, found.done, found.errors, found.retried))

    with progress.working_on(bench.plan(batch)):
        await bench.generate(
            batch,
            ScriptedProvider({"S1/1": [lost], "S2/1": [refused]}),
            concurrency=1,
            on_progress=look,
            on_end=progress.ended,
        )

    given_up = {"provider-rejected": 1, "provider-unavailable": 1}
    waits = (0, 0, 0, {}, {"provider-unavailable": 1})
    assert waits in seen
    assert (1, 1, 2, {"provider-rejected": 1}, {"provider-unavailable": 1}) in seen
    assert seen[-1] == (1, 2, 3, given_up, {})


async def test_what_a_shard_left_failed_is_failed_however_it_ended():
    bench, batch, progress = watched(2)
    busy = ProviderError("busy", kind=ErrorKind.TRANSIENT)
    with progress.working_on(bench.plan(batch)):
        await bench.generate(batch, ScriptedProvider({"S2/1": [busy]}))

    progress.report()

    assert read_status(BATCH_ID, store=bench.store).images.failed == 1


def test_a_stage_advances_by_what_was_done_and_one_that_nobody_began_does_not():
    bench, batch, _ = watched()
    advance(batch.batch_id, 5, services=bench.services)
    assert read_progress(batch.batch_id, store=bench.store) is None
    write_progress(batch.batch_id, "references", services=bench.services, total=7)

    advance(batch.batch_id, 5, services=bench.services)
    advance(batch.batch_id, 2, services=bench.services)

    found = read_progress(batch.batch_id, store=bench.store)
    assert (found.stage, found.done, found.total) == ("references", 7, 7)


def test_what_a_stage_waits_for_stands_beside_how_far_it_is_until_it_goes_on():
    bench, batch, _ = watched()
    note_wait(batch.batch_id, "a slot", services=bench.services)
    assert read_progress(batch.batch_id, store=bench.store) is None
    write_progress(batch.batch_id, "references", services=bench.services, done=3, total=7)

    note_wait(batch.batch_id, "a slot", services=bench.services)
    found = read_progress(batch.batch_id, store=bench.store)
    assert (found.waits_for, found.stage, found.done, found.total) == ("a slot", "references", 3, 7)

    advance(batch.batch_id, 4, services=bench.services)
    note_wait(batch.batch_id, "", services=bench.services)
    found = read_progress(batch.batch_id, store=bench.store)
    assert (found.waits_for, found.done) == ("", 7)
    before = list(bench.store.calls)
    note_wait(batch.batch_id, "", services=bench.services)
    assert [verb for verb, _ in bench.store.calls[len(before) :]] == ["read"]


async def test_what_earlier_runs_ended_is_left_alone_by_the_shards_of_this_one():
    bench, batch, progress = watched(4)
    blocked = ProviderError("refused", kind=ErrorKind.CONTENT_BLOCKED)
    await bench.shard_of(batch, ScriptedProvider({"S2/1": [blocked]}), count=3)
    provider = ScriptedProvider()

    report = await bench.generate(batch, provider, earlier=progress.earlier)

    assert [request.image.item_key for request in provider.requests] == ["S4/1"]
    assert (report.already_delivered, report.generated) == (3, 1)


async def test_later_reports_read_only_what_changed():
    class Counting(InMemoryLedger):
        """Notes how many attempts each reading gave."""

        read = ()

        def attempts(self, batch_id, *, since=None):
            found = super().attempts(batch_id, since=since)
            self.read += (len(found),)
            return found

    clock = ManualClock(NOW)
    ledger = Counting(clock=clock, default_limit=Money.from_usd("10"))
    bench = Bench(ledger=ledger)
    batch = bench.open(*some_requests(30))
    await bench.shard_of(batch, count=20)
    progress = a_progress(bench, batch)
    progress.report()
    sizes = []
    for image in bench.plan(batch)[20:23]:
        clock.advance(timedelta(seconds=21))
        bench.clock.advance(timedelta(seconds=21))
        hold = ledger.open_hold(BATCH_ID)
        await bench.shard(
            [image], ScriptedProvider(), hold=hold, earlier=BatchTally(requested=0).earlier
        )
        progress.report()
        sizes.append(ledger.read[-1])

    # The newest change that was known, and the one after it.
    assert sizes[1:] == [2, 2]
    assert read_status(BATCH_ID, store=bench.store).images.delivered == 23


def test_a_change_that_is_committed_20_s_after_its_date_is_reported():
    class Telling(InMemoryLedger):
        """Tells of what it is told."""

        told = ()

        def attempts(self, batch_id, *, since=None):
            return [one for one in self.told if since is None or one.resolved_at >= since]

    ledger = Telling(clock=ManualClock(NOW), default_limit=Money.from_usd("10"))
    bench = Bench(ledger=ledger)
    progress = a_progress(bench, bench.open(*some_requests(2)))
    delivered = []
    for scene_id, after_s in (("S1", 20), ("S2", 0)):
        changed_at = NOW + timedelta(seconds=after_s)
        ledger.told += (an_attempt(scene_id, 1, intent_at=changed_at, resolved_at=changed_at),)
        bench.clock.advance(timedelta(minutes=1))
        progress.report()
        delivered.append(read_status(BATCH_ID, store=bench.store).images.delivered)

    assert delivered == [1, 2]


@pytest.mark.parametrize("later", [timedelta(seconds=EVERY_S), timedelta(minutes=10)])
async def test_what_changes_after_the_clock_was_put_back_is_reported(later):
    bench = Bench()
    batch = bench.open(*some_requests(3))
    await bench.shard_of(batch, count=1)
    progress = a_progress(bench, batch)
    progress.report()
    bench.clock.set(bench.clock.now() - timedelta(hours=1))
    hold = bench.ledger.open_hold(BATCH_ID)
    await bench.shard(bench.plan(batch)[1:], ScriptedProvider(), hold=hold)
    bench.clock.advance(later)

    progress.report()

    assert read_status(BATCH_ID, store=bench.store).images.delivered == 3


def test_a_report_that_somebody_else_is_writing_is_not_waited_for():
    bench, _, progress = watched()
    progress._lock.acquire()

    progress.report()

    assert writes(bench) == 0


async def test_delivery_begins_with_every_reason_that_images_failed_for():
    bench, batch, _ = watched(3)
    failure = ProviderError("no", kind=ErrorKind.CONTENT_BLOCKED)
    await bench.generate(batch, ScriptedProvider({"S2/1": [failure]}))

    report_delivery(bench.outcome(), services=bench.services)

    found = read_progress(batch.batch_id, store=bench.store)
    assert (found.stage, found.errors) == ("delivery", {"provider-blocked": 1})


@pytest.mark.parametrize("code", ["cancelled", "paused", "interrupted"])
def test_what_stopped_a_batch_before_its_first_image_is_why_none_is_started(code):
    _, _, progress = watched()

    progress.stop("")
    before = progress.stop_code()
    progress.stop(code)

    assert (before, progress.stop_code()) == ("", code)
