"""A refresh that a run, another refresh or a crash overtakes: it never overwrites."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_status import read_status, write_status
from assetgen_pipeline.stages.expiry_index import indexed_until
from assetgen_pipeline.stages.refresh_urls import read_links
from assetgen_pipeline.testing.signer import FakeSigner
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, NOW
from assetgen_pipeline_tests.published_batches import (
    DAY,
    FOLDER,
    OPERATOR,
    a_published,
    refresh,
    republish,
    rows,
)


class RacedSigner(FakeSigner):
    """While it signs for a refresh, something else happens to the batch, once."""

    def __init__(self, race):
        super().__init__(bucket=BUCKET)
        self.race = race

    def sign(self, names, *, ttl, now):
        race, self.race = self.race, lambda: None
        race()
        return super().sign(names, ttl=ttl, now=now)


async def a_race(race):
    """A published batch whose refresh is overtaken by `race(bench)`."""
    bench = await a_published()
    bench.clock.advance(6.5 * DAY)
    services = bench.services

    def overtake():
        # The other process signs with a signer of its own.
        bench.services = services
        bench.clock.advance(timedelta(minutes=1))
        race(bench)

    bench.services = replace(services, signer=RacedSigner(overtake))
    return bench


async def test_a_refresh_overtaken_by_a_run_that_publishes_never_overwrites_its_results():
    bench = await a_race(republish)

    refreshed = refresh(bench)

    assert refreshed.result == "superseded"
    assert rows(bench)[0]["urls_expire_at"] == (bench.clock.now() + 7 * DAY).isoformat()
    links = json.loads(bench.store.read(FOLDER.manifest))["links"]
    assert [one["cause"] for one in links["refreshes"]] == ["run", "run"]


async def test_a_refresh_overtaken_by_another_refresh_leaves_the_newer_links():
    bench = await a_race(lambda bench: refresh(bench, cause=OPERATOR))

    assert refresh(bench).result == "superseded"
    assert rows(bench)[0]["urls_expire_at"] == (bench.clock.now() + 7 * DAY).isoformat()
    bench.clock.advance(7 * DAY)
    assert refresh(bench).result == "refreshed"


async def test_a_refresh_overtaken_by_a_retry_that_only_began_leaves_its_status():
    def begin(bench):
        write_status(BATCH_ID, BatchState.RECEIVED, store=bench.store, clock=bench.clock)

    bench = await a_race(begin)

    assert refresh(bench).result == "superseded"
    assert read_status(BATCH_ID, store=bench.store).state is BatchState.RECEIVED


async def test_a_refresh_overtaken_by_a_run_that_wrote_its_manifest_touches_nothing():
    def deliver(bench):
        bench.store.write(FOLDER.manifest, b"{}", content_type="application/json")

    bench = await a_race(deliver)
    before = bench.store.stat(FOLDER.results)

    assert refresh(bench).result == "superseded"
    assert bench.store.stat(FOLDER.results) == before
    assert bench.store.read(FOLDER.manifest) == b"{}"


async def test_a_run_that_publishes_between_a_refreshs_two_files_wins_with_both():
    bench = await a_published()
    bench.clock.advance(6.5 * DAY)
    write = bench.store.write

    def overtaken(name, data, **options):
        written = write(name, data, **options)
        if name == FOLDER.manifest and options.get("if_generation"):
            bench.store.write = write
            bench.clock.advance(timedelta(minutes=1))
            republish(bench)
        return written

    bench.store.write = overtaken

    assert refresh(bench).result == "superseded"
    end = (bench.clock.now() + 7 * DAY).isoformat()
    assert rows(bench)[0]["urls_expire_at"] == end
    assert json.loads(bench.store.read(FOLDER.manifest))["links"]["expires_at"] == end


@pytest.mark.parametrize("step", range(12))
async def test_a_crash_at_any_step_loses_no_batch(step):
    class Crash(Exception):
        pass

    bench = await a_published()
    bench.clock.advance(6.5 * DAY)
    left, write, delete = [step], bench.store.write, bench.store.delete

    def dies(call):
        def wrapped(*args, **options):
            if left[0] == 0:
                raise Crash
            left[0] -= 1
            return call(*args, **options)

        return wrapped

    bench.store.write, bench.store.delete = dies(write), dies(delete)
    crashed = False
    try:
        refresh(bench)
    except Crash:
        crashed = True
    bench.store.write, bench.store.delete = write, delete

    # Some day after the crash, whatever the sensor finds due is refreshed until nothing is.
    bench.clock.advance(2 * DAY)
    refresh(bench)
    bench.clock.advance(6 * DAY)
    refresh(bench)

    end = read_links(BATCH_ID, services=bench.services).expires_at
    assert crashed is (step < 7)
    assert end > bench.clock.now().isoformat()
    assert rows(bench)[0]["urls_expire_at"] == end
    due = [
        entry.life.expires_at.isoformat()
        for entry in indexed_until(NOW + 90 * DAY, store=bench.store)
    ]
    assert due == [end]


async def test_a_status_that_changes_between_two_looks_is_somebody_elses():
    bench = await a_published()
    bench.clock.advance(7 * DAY)
    real, looks = bench.store.read, []

    def read(name, *, generation=None):
        if name == FOLDER.status and generation is not None:
            looks.append(name)
            write_status(BATCH_ID, BatchState.RECEIVED, store=bench.store, clock=bench.clock)
        return real(name, generation=generation)

    bench.store.read = read

    assert refresh(bench).result == "superseded"
    assert looks
