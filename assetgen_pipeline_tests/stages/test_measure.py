"""Measuring the bucket."""

from datetime import timedelta

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.delivery import LinkLife
from assetgen_pipeline.domain.pauses import Pause
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_status import write_status
from assetgen_pipeline.stages.conditions import unclaimed_drops
from assetgen_pipeline.stages.expiry_index import index_links
from assetgen_pipeline.stages.measure import measure_batches, measure_inbox, measure_links
from assetgen_pipeline.stages.pausing import change_pauses
from assetgen_pipeline_tests.builders import BATCH_ID, NOW
from assetgen_pipeline_tests.stage_bench import Bench


def values(samples):
    return {(s.name.removeprefix("assetgen_"), *s.labels.values()): s.value for s in samples}


def inbox(bench, *, under_way=(), owners=("ada", "ben")):
    unclaimed = unclaimed_drops(
        store=bench.store, under_way=under_way, max_bytes=10, owners=owners, provider="local"
    )
    return values(measure_inbox(unclaimed, now=bench.clock.now()))


async def test_files_that_nobody_should_take_do_not_make_the_inbox_late_for_good():
    bench = Bench()
    for name, size in {"ada/huge": 11, "cleo/another-deployment": 1, "ben/paused": 1}.items():
        bench.store.write(f"inbox/{name}.csv", b"x" * size, content_type="text/csv")
    pause = Pause(scope="owner", name="ben", by="ann", at=NOW)
    change_pauses(lambda state: state.with_pause(pause), store=bench.store)
    queued = bench.store.write("inbox/ada/queued.csv", b"x", content_type="text/csv")
    await bench.clock.sleep(3_600)
    late = bench.store.write("inbox/ada/late.csv", b"x", content_type="text/csv")
    await bench.clock.sleep(60)

    with_runs = inbox(bench, under_way={(queued.name, queued.generation)})

    assert late.size == 1
    assert with_runs == {("inbox_files",): 1, ("inbox_oldest_seconds",): 60}
    assert inbox(bench)["inbox_files",] == 2


async def test_the_inbox_is_measured_by_its_batches_and_not_by_strays():
    bench = Bench()
    bench.store.write("inbox/ada/notes.txt", b"x", content_type="text/plain")
    await bench.clock.sleep(50)
    bench.store.write("inbox/ada/a.csv", b"x", content_type="text/csv")
    await bench.clock.sleep(30)
    bench.store.write("inbox/ben/dry-run/b.csv", b"x", content_type="text/csv")
    await bench.clock.sleep(20)

    found = inbox(bench)

    assert found == {("inbox_files",): 2, ("inbox_oldest_seconds",): 50}


def test_an_empty_inbox_is_zero():
    assert set(inbox(Bench()).values()) == {0}


def test_links_are_counted_by_batch_and_by_how_soon_the_first_ends():
    bench = Bench()
    for name, left in {"gone": -1, "soon": 30, "today": 600, "later": 99_999}.items():
        life = LinkLife(signed_at=NOW, expires_at=NOW + timedelta(minutes=left), published_at=NOW)
        index_links(f"ada.{name}.0123abcd", life, store=bench.store)

    found = values(measure_links(store=bench.store, now=NOW))

    assert found == {
        ("urls_expiring_batches", "0h"): 1,
        ("urls_expiring_batches", "1h"): 2,
        ("urls_expiring_batches", "24h"): 3,
    }


def test_batches_are_counted_by_state_and_unknown_ones_left_out():
    bench = Bench()
    write_status(BATCH_ID, BatchState.RUNNING, store=bench.store, clock=bench.clock)

    found = values(measure_batches([BATCH_ID, "ada.gone.0123abcd"], store=bench.store))

    assert found["batches", "running"] == 1
    assert sum(found.values()) == 1


def test_a_batch_whose_status_is_damaged_is_named_in_the_log_and_hides_no_other(caplog):
    bench = Bench()
    damaged = BatchFolder("ada.damaged.0123abcd").status
    write_status(BATCH_ID, BatchState.RUNNING, store=bench.store, clock=bench.clock)
    bench.store.write(damaged, b"{garbage", content_type="application/json")

    found = values(measure_batches(["ada.damaged.0123abcd", BATCH_ID], store=bench.store))

    assert found["batches", "running"] == 1
    assert sum(found.values()) == 1
    assert caplog.messages == [f"one batch is left out: {damaged} is damaged"]
