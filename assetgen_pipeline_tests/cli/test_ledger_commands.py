"""`assetgen ledger …` and `budget show` as people call them, on a real ledger and local bucket."""

import re
import sqlite3
from contextlib import closing
from datetime import date, timedelta

import pytest

from assetgen_pipeline.cli.money import headroom_line
from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.status import BatchState, BatchStatus
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.ledger import open_ledger
from assetgen_pipeline_tests.ledger_helpers import request
from assetgen_pipeline_tests.noon import NOON_ZONE

BATCH = "ada.spring.0000000a"
INVARIANTS = [f"I{number}" for number in range(1, 11)]


@pytest.fixture
def books(assetgen):
    with open_ledger(load_settings()) as ledger:
        yield ledger
        for hold in ledger.open_holds():
            ledger.settle(hold.batch_id)
        for one in ledger.assumed_attempts():
            ledger.reconcile(one.attempt_id, None)


def hold(books, *, batch=BATCH, run="gone", worker="", amount=300, owner="ada"):
    return books.reserve(
        owner=owner,
        batch_id=batch,
        run_id=run,
        amount=Money(amount),
        price_version="p",
        worker=worker,
    )


def test_verify_prints_every_invariant(assetgen, books):
    answer = assetgen("ledger", "verify", "--json")

    assert answer.code == 0
    assert [check["name"] for check in answer.document] == INVARIANTS
    assert all(check["sentence"] and check["violations"] == [] for check in answer.document)
    lines = assetgen("ledger", "verify").out.splitlines()
    assert [line.split()[:2] for line in lines] == [["ok", name] for name in INVARIANTS]


def test_verify_finds_an_image_that_nobody_booked(assetgen, books):
    with open_object_store(load_settings()) as store:
        store.create("images/ada/aa/aa.png", b"x", content_type="image/png")
        answer = assetgen("ledger", "verify", "--json")
        store.delete("images/ada/aa/aa.png")

    assert answer.code == 1
    broken = {
        check["name"]: check["violations"] for check in answer.document if check["violations"]
    }
    assert broken == {"I8": ["images/ada/aa/aa.png is stored and its attempt is not in the ledger"]}


def test_verify_without_a_bucket_says_what_it_could_not_check(assetgen, books, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")

    answer = assetgen("ledger", "verify", "--json")

    assert answer.code == 1
    broken = {
        check["name"]: check["violations"] for check in answer.document if check["violations"]
    }
    assert list(broken) == ["I8"]
    assert broken["I8"][0].startswith("not checked: storage-unavailable")


def test_recover_frees_a_hold_whose_process_is_gone_and_leaves_what_it_cannot_judge(
    assetgen, books
):
    host, boot, pid, _started = worker_identity().split("/")
    hold(books, worker=f"{host}/{boot}/{pid}/1")
    hold(books, batch="ada.other.0000000b", run="elsewhere")

    answer = assetgen("ledger", "recover", "--json")

    assert answer.code == 0
    found = {one["batch_id"]: one for one in answer.document["holds"]}
    assert found[BATCH]["released_usd"] == "0.000300"
    assert found["ada.other.0000000b"] == {
        "batch_id": "ada.other.0000000b",
        "owner": "ada",
        "run_id": "elsewhere",
        "run": "unknown",
        "amount_usd": "0.000300",
        "released_usd": None,
    }
    assert "left    ada.other.0000000b: its run is unknown" in assetgen("ledger", "recover").out
    assert "expired ada.other.0000000b" in assetgen("ledger", "recover", "--unknown").out
    assert assetgen("ledger", "recover").out == "no open hold\n"


@pytest.fixture
def assumed(books):
    token = books.intent(hold(books), request(ceiling=100))
    books.settle(BATCH)
    return token.attempt_id


def test_reconcile_lists_what_nobody_knows_the_bill_of(assetgen, assumed):
    answer = assetgen("ledger", "reconcile", "--json")

    assert answer.code == 0
    [row] = answer.document
    assert (row["attempt_id"], row["batch_id"], row["ceiling_usd"]) == (assumed, BATCH, "0.000100")
    assert assumed[:12] in assetgen("ledger", "reconcile").out


def test_reconcile_books_what_it_cost(assetgen, books, assumed):
    answer = assetgen(
        "ledger", "reconcile", "--attempt", assumed[:12], "--cost", "0.00004", "--json"
    )

    assert (answer.code, answer.document["cost_usd"]) == (0, "0.000040")
    assert books.day("ada").settled == Money(40)
    assert assetgen("ledger", "reconcile").out == "every bill is known\n"
    assert assetgen("ledger", "reconcile", "--attempt", assumed, "--cost", "0.00004").code == 1


def test_reconcile_books_that_it_was_not_billed(assetgen, books, assumed):
    before = books.day("ada").settled

    answer = assetgen("ledger", "reconcile", "--attempt", assumed, "--void")

    assert answer.code == 0
    assert "not billed" in answer.out
    assert books.day("ada").settled == before - Money(100)


@pytest.mark.parametrize(
    "words",
    [
        ["--void"],
        ["--cost", "1"],
        ["--attempt", "{id}"],
        ["--attempt", "{id}", "--void", "--cost", "1"],
        ["--attempt", "{id}", "--cost", "lots"],
        ["--attempt", "{id}", "--cost", "-1"],
        ["--attempt", "{id}", "--cost", "0.00000012"],
    ],
)
def test_reconcile_with_words_that_do_not_fit_is_a_usage_error(assetgen, books, assumed, words):
    answer = assetgen("ledger", "reconcile", *[word.format(id=assumed) for word in words])

    assert answer.code == 2
    assert [one.attempt_id for one in books.assumed_attempts()] == [assumed]


@pytest.mark.parametrize("wanted", ["f" * 64, "", "0"])
def test_reconcile_of_an_attempt_that_is_not_assumed_is_an_error(assetgen, assumed, wanted):
    answer = assetgen("ledger", "reconcile", "--attempt", wanted, "--void")

    assert answer.code == 1
    assert "assetgen ledger reconcile" in answer.err


def test_a_backup_is_restored_and_what_it_replaced_is_kept(assetgen, books, tmp_path):
    file = tmp_path / "books.db"
    before = books.day("ada")
    written = assetgen("ledger", "backup", file, "--json")
    assert (written.code, written.document["bytes"]) == (0, file.stat().st_size)
    assert assetgen("ledger", "backup", file).code == 1
    hold(books)

    answer = assetgen("ledger", "restore", file, "--json")

    assert (answer.code, answer.document["broken"]) == (0, [])
    assert books.day("ada") == before
    with closing(sqlite3.connect(answer.document["kept"])) as kept:
        assert kept.execute("SELECT count(*) FROM hold WHERE state = 'open'").fetchone() == (1,)


def test_a_damaged_ledger_can_be_restored(assetgen, books, home, tmp_path):
    file = tmp_path / "books.db"
    books.set_limit("ada", Money(77), set_by="op")
    assetgen("ledger", "backup", file)
    books.close()
    for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm"):
        (home / name).unlink(missing_ok=True)
    (home / "ledger.db").write_bytes(b"\0" * 9999)
    assert assetgen("ledger", "verify").code == 1

    assert assetgen("ledger", "restore", file).code == 0

    assert books.day("ada").limit == Money(77)
    books.set_limit("ada", Money(10_000_000), set_by="op")


def test_something_that_is_no_backup_changes_nothing(assetgen, books, tmp_path):
    wrong = tmp_path / "wrong.db"
    wrong.write_bytes(b"no database")
    held = hold(books)

    answer = assetgen("ledger", "restore", wrong, "--json")

    assert answer.code == 1
    assert answer.document["error"]["code"] == "ledger-unavailable"
    assert books.open_hold(BATCH) == held


def test_a_restore_waits_for_runs_to_end_unless_forced(assetgen, books, tmp_path):
    import dagster as dg  # noqa: PLC0415 - only here

    from assetgen_pipeline.defs import control  # noqa: PLC0415
    from assetgen_pipeline_tests.fake_deployment import add_run  # noqa: PLC0415

    file = tmp_path / "books.db"
    assetgen("ledger", "backup", file)
    with control.open_instance(load_settings()) as instance:
        run = add_run(
            instance,
            status=dg.DagsterRunStatus.STARTED,
            batch_id=BATCH,
            assetgen__worker=worker_identity(),
        )

    refused = assetgen("ledger", "restore", file)
    forced = assetgen("ledger", "restore", file, "--force")

    with control.open_instance(load_settings()) as instance:
        instance.report_run_canceled(instance.get_run_by_id(run.run_id))
    assert (refused.code, forced.code) == (1, 0)
    assert run.run_id in refused.err


def test_without_a_name_every_budget_is_shown_and_the_deployments(assetgen, books, monkeypatch):
    books.set_limit("zoe", Money(5_000_000), set_by="op")
    monkeypatch.setenv("ASSETGEN_PROJECT_DAILY_LIMIT_USD", "50")

    document = assetgen("budget", "show", "--json").document

    owners = {row["owner"]: row for row in document["owners"]}
    assert owners["zoe"]["limit_usd"] == owners["zoe"]["headroom_usd"] == "5.000000"
    assert document["project"]["limit_usd"] == "50.000000"
    table = assetgen("budget", "show").out
    assert "zoe" in table
    assert "(deployment)" in table
    monkeypatch.delenv("ASSETGEN_PROJECT_DAILY_LIMIT_USD")
    assert assetgen("budget", "show", "--json").document["project"] is None


def test_a_budget_names_everything_that_stands_against_it(assetgen, books):
    token = books.intent(hold(books, amount=300), request(ceiling=100))
    books.assume(token, code="x", detail="")

    row = assetgen("budget", "show", "ada", "--json").document

    assert row.keys() == {
        "owner", "budget_date", "limit_usd", "held_usd", "settled_usd", "assumed_usd",
        "headroom_usd", "resets_at",
    }  # fmt: skip
    assert row["held_usd"] == "0.000200"
    assert row["assumed_usd"] == "0.000100"


def test_a_new_limit_says_from_when_it_is_in_force(assetgen):
    today = assetgen("budget", "show", "gus", "--json").document["budget_date"]

    answer = assetgen("budget", "set", "gus", "--daily-usd", "3")

    assert f"in force     from now on, {today} ({NOON_ZONE}) included" in answer.out


def test_a_limit_below_what_today_has_used_is_in_force_from_tomorrow(assetgen, books):
    hold(books, batch="fay.spring.0000000a", owner="fay", amount=3_000_000)
    today = date.fromisoformat(assetgen("budget", "show", "fay", "--json").document["budget_date"])

    answer = assetgen("budget", "set", "fay", "--daily-usd", "1")

    tomorrow = today + timedelta(days=1)
    assert (
        f"in force     $1.00 from {tomorrow} ({NOON_ZONE}) on; $3.00 is held or spent" in answer.out
    )


@pytest.mark.parametrize(
    ("estimate", "said"), [("0.000700", "fits: "), ("0.000701", "does not fit: ")]
)
def test_a_dry_run_says_what_is_left_of_the_day_and_whether_it_fits(
    assetgen, books, monkeypatch, estimate, said
):
    monkeypatch.setenv("ASSETGEN_DAILY_LIMIT_USD", "0.001")
    hold(books, batch="eve.other.0000000b", owner="eve", amount=300)
    priced = BatchStatus(
        batch_id="eve.dry.0000000c",
        owner="eve",
        state=BatchState.PRICED,
        mode="dry_run",
        estimate_usd=estimate,
        updated_at="2026-03-01T12:00:00+00:00",
        outbox="",
    )

    line = headroom_line(priced)

    assert line.startswith(f"{said}$0.0007 left of $0.001 today; resets at ")
    monkeypatch.setenv("ASSETGEN_PROJECT_DAILY_LIMIT_USD", "0.0004")
    # What other owners of this ledger hold counts there too.
    assert re.match(r"does not fit: \$0\.0\d+ left of \$0\.0004 today", headroom_line(priced))
