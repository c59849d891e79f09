"""What can be wrong with a deployment: found where it is, and only there."""

import json
from datetime import timedelta

import pytest

from assetgen_pipeline.domain.alerts import AlertKind
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.budget import InvariantCheck
from assetgen_pipeline.domain.delivery import LinkLife
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.pauses import Pause
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_status import write_status
from assetgen_pipeline.stages.conditions import (
    broken_invariants,
    expired_links,
    inbox_lag,
    looked_at,
    stuck_batches,
)
from assetgen_pipeline.stages.expiry_index import index_links
from assetgen_pipeline.stages.pausing import change_pauses
from assetgen_pipeline.stages.waiting_batches import wait_for
from assetgen_pipeline_tests.builders import BATCH_ID, NOW
from assetgen_pipeline_tests.stage_bench import Bench, some_requests

TEN_MINUTES = timedelta(minutes=10)


@pytest.fixture
def bench():
    return Bench()


def drop(bench, name="inbox/ada/a.csv"):
    return bench.store.write(name, b"x", content_type="text/csv")


def lag(bench, *, under_way=(), owners=()):
    return inbox_lag(
        store=bench.store,
        now=bench.clock.now(),
        longest=TEN_MINUTES,
        under_way=set(under_way),
        max_bytes=100,
        owners=owners,
    )


async def test_a_file_that_was_too_large_to_take_does_not_hide_later_ones(bench):
    bench.store.write("inbox/ada/huge.csv", b"x" * 101, content_type="text/csv")
    await bench.clock.sleep(TEN_MINUTES.total_seconds() + 1)

    assert lag(bench) == []


async def test_a_drop_that_no_run_is_for_is_late_after_the_limit_and_not_before(bench):
    drop(bench)
    await bench.clock.sleep(TEN_MINUTES.total_seconds())
    before = lag(bench)
    await bench.clock.sleep(1)

    [alert] = lag(bench)

    assert before == []
    assert alert.kind is AlertKind.INBOX_LAG
    assert "1 files wait" in alert.what
    assert "inbox/ada/a.csv" in alert.what


async def test_a_drop_whose_run_waits_its_turn_is_not_late(bench):
    info = drop(bench)
    await bench.clock.sleep(3600)

    assert lag(bench, under_way=[(info.name, info.generation)]) == []
    assert lag(bench, under_way=[(info.name, info.generation + 1)]) != []


async def test_strays_and_the_folders_of_another_deployment_are_nobodys_delay(bench):
    drop(bench, "inbox/ada/notes.txt")
    drop(bench, "inbox/ben/b.csv")
    await bench.clock.sleep(3600)

    assert lag(bench, owners={"ada"}) == []


async def test_what_an_operator_made_wait_is_not_late_and_not_stuck(bench):
    drop(bench)
    bench.reserve(bench.open(*some_requests(1)))
    write_status(BATCH_ID, BatchState.RUNNING, store=bench.store, clock=bench.clock)
    pause = Pause(scope="all", by="ada", at=NOW)
    change_pauses(lambda state: state.with_pause(pause), store=bench.store)
    wait_for("pause", BATCH_ID, store=bench.store, clock=bench.clock)
    await bench.clock.sleep(99_999)

    paused = lag(bench), stuck(bench)
    change_pauses(lambda state: state.without("all", ""), store=bench.store)
    wait_for("run", BATCH_ID, store=bench.store, clock=bench.clock)

    assert paused == ([], [])
    assert len(lag(bench)) == len(stuck(bench)) == 1


async def test_a_moving_backlog_is_one_alert_and_not_one_per_file(bench):
    for number in range(5):
        drop(bench, f"inbox/ada/{number}.csv")
    await bench.clock.sleep(3600)
    [first] = lag(bench)
    bench.store.delete("inbox/ada/0.csv")

    [second] = lag(bench)

    assert (first.key, first.state) == (second.key, second.state)


def expiring(bench, batch_id, at):
    life = LinkLife(signed_at=NOW, expires_at=at, published_at=NOW)
    index_links(batch_id, life, store=bench.store)


def test_links_that_ended_and_were_not_refreshed_are_told_and_others_are_not(bench):
    expiring(bench, "ada.old.0123abcd", NOW - timedelta(hours=2))
    expiring(bench, "ada.older.0123abcd", NOW - timedelta(days=2))
    expiring(bench, "ada.now.0123abcd", NOW - timedelta(minutes=9))
    expiring(bench, "ada.later.0123abcd", NOW + timedelta(hours=5))

    [alert] = expired_links(store=bench.store, now=NOW)

    assert "the links of 2 batches have ended, first those of ada.older.0123abcd" in alert.what


def test_no_ended_links_are_no_alert(bench):
    assert expired_links(store=bench.store, now=NOW) == []


def test_broken_invariants_are_named(bench, monkeypatch):
    checks = [
        InvariantCheck(name="I3", sentence="", violations=("day",)),
        InvariantCheck(name="I1", sentence="", violations=("day", "day")),
        InvariantCheck(name="I2", sentence="", violations=()),
    ]
    monkeypatch.setattr(bench.ledger, "verify", lambda: checks)

    [alert] = broken_invariants(ledger=bench.ledger)

    assert alert.state == "I1,I3"
    assert alert.command == "assetgen ledger verify"


def test_whole_books_are_no_alert(bench):
    assert broken_invariants(ledger=bench.ledger) == []


def stuck(bench, running=(), after=timedelta(hours=1)):
    return stuck_batches(
        running,
        bench.ledger.open_holds(),
        store=bench.store,
        now=bench.clock.now(),
        after=after,
    )


async def test_a_batch_that_holds_money_and_does_not_move_is_stuck(bench):
    batch = bench.open(*some_requests(3))
    bench.reserve(batch)
    write_status(
        BATCH_ID, BatchState.RUNNING, store=bench.store, clock=bench.clock, spent_usd="0.002000"
    )
    await bench.clock.sleep(3600)
    before = stuck(bench)
    await bench.clock.sleep(1)

    [alert] = stuck(bench)

    assert before == []
    assert alert.about == BATCH_ID
    assert (alert.spent, alert.held) == (Money(2_000), Money(6_000))
    assert "has not moved for 60 minutes" in alert.what


async def test_a_batch_with_a_run_is_looked_at_too_and_holds_nothing(bench):
    write_status(BATCH_ID, BatchState.VALIDATING, store=bench.store, clock=bench.clock)
    await bench.clock.sleep(3601)

    [alert] = stuck(bench, [BATCH_ID])

    assert (alert.spent, alert.held) == (None, Money(0))


async def test_batches_that_ended_or_are_unknown_are_not_stuck(bench):
    write_status(BATCH_ID, BatchState.COMPLETED, store=bench.store, clock=bench.clock)
    await bench.clock.sleep(9999)

    assert stuck(bench, [BATCH_ID, "ada.unknown.0123abcd"]) == []


async def test_a_status_whose_times_are_damaged_hides_no_other(bench):
    for name in (BATCH_ID, "ada.other.0123abcd"):
        write_status(name, BatchState.RUNNING, store=bench.store, clock=bench.clock)
    name = BatchFolder(BATCH_ID).status
    known = json.loads(bench.store.read(name))
    damaged = json.dumps(known | {"updated_at": "soon"}).encode()
    bench.store.write(name, damaged, content_type="application/json")
    await bench.clock.sleep(9999)

    [alert] = stuck(bench, [BATCH_ID, "ada.other.0123abcd"])

    assert alert.about == "ada.other.0123abcd"


async def test_nobody_is_told_of_more_stuck_batches_than_one_can_read(bench):
    names = [f"ada.b{n}.0123abcd" for n in range(50)]
    for name in names:
        write_status(name, BatchState.RUNNING, store=bench.store, clock=bench.clock)
    await bench.clock.sleep(9999)

    assert len(stuck(bench, names)) == 20


def test_a_check_that_cannot_look_is_told_and_hides_no_other():
    def unreachable():
        raise StorageUnavailable("the bucket does not answer")

    found, unseen = looked_at(
        {
            AlertKind.INBOX_LAG: unreachable,
            AlertKind.LEDGER_BROKEN: list,
            AlertKind.URLS_EXPIRED: lambda: ["ended"],
        }
    )

    assert [getattr(alert, "about", alert) for alert in found] == ["inbox-lag", "ended"]
    assert unseen == {AlertKind.INBOX_LAG}
    assert found[0].state == "storage-unavailable"
