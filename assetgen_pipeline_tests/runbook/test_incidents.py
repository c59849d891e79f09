"""Each incident of the runbook: its symptom provoked, its steps followed, its end verified."""

import ast
import csv
import io
import re
import signal
import urllib.error
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from assetgen_pipeline.defs.control import open_instance
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline_tests.builders import a_csv
from assetgen_pipeline_tests.command_home import Home
from assetgen_pipeline_tests.fake_deployment import add_run
from assetgen_pipeline_tests.processes import DEADLINE_S, is_alive, kill, until
from assetgen_pipeline_tests.runbook.incidents import Responder, incidents

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
TWO_ROWS = a_csv(["S1", "a kitchen"], ["S2", "a harbour"])


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path / "home")
    yield made
    made.stop()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "spring.csv"
    path.write_bytes(TWO_ROWS)
    return path


def state_of(answer):
    code, document, _err = answer
    assert code == 0
    return document["state"]


def broken(answer):
    code, checks, _err = answer
    return code, [check["name"] for check in checks if check["violations"]]


def rows_of(store, batch_id):
    text = store.read(BatchFolder(batch_id).results).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_every_incident_of_the_runbook_has_a_test_that_follows_it():
    tested = set(re.findall(r"def test_rb_(\d\d)_", Path(__file__).read_text(encoding="utf-8")))

    assert tested == set(incidents()) == {f"{number:02}" for number in range(1, 14)}


def followed(number):
    """What the tests of an incident follow: each section, and how its command begins if one is chosen."""
    for test in ast.parse(Path(__file__).read_text(encoding="utf-8")).body:
        if not getattr(test, "name", "").startswith(f"test_rb_{number}_"):
            continue
        for node in ast.walk(test):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="rb"), attr="follow" | "start"),
                    args=[ast.Constant(value=section), *chosen],
                ):
                    for words in chosen or [ast.Constant("")]:
                        yield section, f"assetgen {words.value}"


@pytest.mark.parametrize("number", incidents())
def test_every_command_of_the_runbook_is_followed(number):
    done = list(followed(number))

    assert [
        line
        for section, lines in incidents()[number].commands.items()
        for line in lines
        if not any(section == of and line.startswith(words) for of, words in done)
    ] == []


def test_rb_04_a_budget_that_is_used_up_is_raised_and_the_batch_finished(home, file):
    _code, refused, _err = home.run("run", file, "--owner", "ada", ASSETGEN_DAILY_LIMIT_USD="0.001")
    rb = Responder("04", home, BATCH=refused["batch_id"], OWNER="ada")

    budget, status = rb.follow("Check", ASSETGEN_DAILY_LIMIT_USD="0.001")
    assert budget[1]["headroom_usd"] == "0.001000"
    assert state_of(status) == "refused"
    assert status[1]["problem"]["code"] == "budget-exceeded"

    _set, retried = rb.follow("Act", "budget set", "retry")
    assert (retried[0], retried[1]["state"]) == (0, "completed")

    [after] = rb.follow("Verify")
    assert (after[1]["limit_usd"], after[1]["settled_usd"]) == ("25.000000", "0.004000")


def test_rb_04_a_batch_that_waits_for_approval_is_approved_and_finished(home, file):
    limit = {"ASSETGEN_APPROVAL_ABOVE_USD": "0.001"}
    code, waiting, _err = home.run("run", file, "--owner", "ada", **limit)
    assert (code, waiting["state"]) == (3, "awaiting_approval")
    rb = Responder("04", home, BATCH=waiting["batch_id"], OWNER="ada")

    _budget, status = rb.follow("Check", **limit)
    assert state_of(status) == "awaiting_approval"

    [approved] = rb.follow("Act", "approve", **limit)
    assert (approved[0], approved[1]["state"]) == (0, "completed")


def killed_in_a_call(home, file):
    """A batch whose worker was killed while the provider worked on both images."""
    run = home.start(*("run", file, "--owner", "ada", "--json"), ASSETGEN_LOCAL_LATENCY_S="600")
    with home.bucket() as store:
        [name] = until(lambda: [o.name for o in store.list("outbox/")][:1])
        batch_id = name.split("/")[2]
        until(lambda: len(home.attempts(batch_id)[0]) == 2)
        # The command that watches goes first, so that nobody closes the batch.
        run.send_signal(signal.SIGKILL)
        run.wait()
        workers = home.pids("execute")
        kill(workers)
        until(lambda: not any(is_alive(pid) for pid in workers))
    return batch_id


def test_rb_06_a_killed_workers_batch_is_recovered_and_finished(home, file):
    batch_id = killed_in_a_call(home, file)
    rb = Responder("06", home, BATCH=batch_id)
    assert home.run("status", batch_id)[1]["state"] == "running"

    recovered, retried = rb.follow("Act")
    assert recovered[0] == 0
    assert (retried[0], retried[1]["state"]) == (0, "completed")

    status, verified = rb.follow("Verify")
    assert state_of(status) == "completed"
    assert broken(verified) == (0, [])
    attempts, holds, _broken = home.attempts(batch_id)
    assert sorted(a.state.value for a in attempts) == ["assumed"] * 2 + ["captured"] * 2
    assert holds == []


def test_rb_10_a_ledger_that_is_down_costs_nothing_and_the_batch_is_finished_later(home, file):
    gone = {"ASSETGEN_LEDGER_URL": "postgresql+psycopg://nobody@127.0.0.1:1/ledger"}
    code, failed, _err = home.run("run", file, "--owner", "ada", **gone)
    rb = Responder("10", home, BATCH=failed["batch_id"])
    assert (code, failed["state"]) == (1, "failed")
    assert failed["problem"]["code"] == "ledger-unavailable"

    [doctor] = rb.follow("Check", **gone)
    assert doctor[0] == 1
    assert "FAIL" in {line["state"] for line in doctor[1] if line["subject"] == "ledger"}

    [retried] = rb.follow("Act")
    assert (retried[0], retried[1]["state"]) == (0, "completed")

    [verified] = rb.follow("Verify")
    assert broken(verified) == (0, [])


def test_rb_05_a_bill_that_nobody_knows_is_settled(home, file):
    batch_id = killed_in_a_call(home, file)
    assert home.run("ledger", "recover")[0] == 0
    [assumed, other] = [a.attempt_id for a in home.attempts(batch_id)[0]]
    rb = Responder("05", home, ATTEMPT=assumed)

    verified, unknown = rb.follow("Check")
    assert broken(verified) == (0, [])
    assert {line["attempt_id"] for line in unknown[1]} == {assumed, other}

    [settled] = rb.follow("Act")
    assert settled[0] == 0

    [verified] = rb.follow("Verify")
    assert broken(verified) == (0, [])
    assert {line["attempt_id"] for line in home.run("ledger", "reconcile")[1]} == {other}
    assert home.run("budget", "show", "ada")[1]["settled_usd"] == "0.002000"


def test_rb_07_links_that_ended_are_signed_anew(home, file):
    _code, batch, _err = home.run("run", file, "--owner", "ada", ASSETGEN_URL_TTL="6m")
    rb = Responder("07", home, BATCH=batch["batch_id"])
    with home.bucket() as store:
        before = rows_of(store, batch["batch_id"])

        told, expiring = rb.follow("Act", "refresh-urls --expiring")

        named = [{one["batch_id"] for one in answer[1]["batches"]} for answer in (told, expiring)]
        assert named == [{batch["batch_id"]}] * 2
        assert (told[0], expiring[0]) == (0, 0)
        between = rows_of(store, batch["batch_id"])
        # Links of one second end in the same.
        signed_again = datetime.now(UTC)
        until(lambda: datetime.now(UTC) >= signed_again + timedelta(seconds=1))

        [refreshed] = rb.follow("Act", "refresh-urls BATCH")

        assert refreshed[0] == 0
        after = rows_of(store, batch["batch_id"])
        assert [row["status"] for row in after] == ["delivered"] * 2
        assert all(
            a["urls_expire_at"] > b["urls_expire_at"] > c["urls_expire_at"]
            for a, b, c in zip(after, between, before, strict=True)
        )
        with urllib.request.urlopen(after[0]["image_url_1"], timeout=DEADLINE_S) as image:
            assert image.read(8) == b"\x89PNG\r\n\x1a\n"


def test_rb_13_a_ledger_that_is_lost_is_restored(home, file, tmp_path):
    _code, batch, _err = home.run("run", file, "--owner", "ada")
    backup = tmp_path / "backup.db"
    assert home.run("ledger", "backup", backup)[0] == 0
    for path in home.path.glob("ledger.db*"):
        path.unlink()
    (home.path / "ledger.db").write_bytes(b"not a database at all" * 1000)
    rb = Responder("13", home, FILE=str(backup), BATCH=batch["batch_id"])

    [damaged] = rb.follow("Check")
    assert damaged[0] == 1

    assert [code for code, _document, _err in rb.follow("Act")] == [0, 0]

    [verified] = rb.follow("Verify")
    assert broken(verified) == (0, [])
    attempts, _holds, _broken = home.attempts(batch["batch_id"])
    assert [a.state.value for a in attempts] == ["captured"] * 2


def state_of_subject(doctor, subject):
    _code, findings, _err = doctor
    return {line["state"] for line in findings if line["subject"] == subject}


@contextmanager
def dagster_of(home):
    """The instance of this HOME, opened in this process."""
    with pytest.MonkeyPatch.context() as patch:
        settings = load_settings(home=home.path)
        patch.setenv("DAGSTER_HOME", str(settings.dagster_home))
        with open_instance(settings) as instance:
            yield instance


def test_rb_01_a_file_that_nobody_takes_is_taken_once_the_daemon_runs(home, file):
    dropped = home.run("submit", file, "--owner", "ada")[1]["batch_id"]
    rb = Responder("01", home)

    [doctor] = rb.follow("Check")
    assert state_of_subject(doctor, "daemons") != {"ok"}

    rb.start("Act", "up")
    with home.bucket() as store:
        until(lambda: store.stat(BatchFolder(dropped).status))
        until(lambda: read_status(dropped, store=store).state is BatchState.COMPLETED)

        [(code, listed, _err)] = rb.follow("Verify")
        assert (code, [batch["batch_id"] for batch in listed]) == (0, [dropped])
        assert list(store.list("inbox/")) == []


def test_rb_02_a_slot_of_a_run_that_is_over_is_given_back(home, file):
    assert home.run("doctor")[0] in {0, 1}
    with dagster_of(home) as instance:
        over = add_run(instance, status=dg.DagsterRunStatus.FAILURE)
        claim = instance.event_log_storage.claim_concurrency_slot
        assert claim("reference_fetch", over.run_id, "step").is_claimed
    rb = Responder("02", home)

    [doctor] = rb.follow("Check")
    assert state_of_subject(doctor, "pools") != {"ok"}

    [fixed] = rb.follow("Act")
    assert state_of_subject(fixed, "pools") == {"ok"}
    assert home.run("run", file, "--owner", "ada")[0] == 0


def failed_batch(home, file):
    """A batch whose provider failed for every image."""
    answer = home.run("run", file, "--owner", "ada", ASSETGEN_LOCAL_FAILURE_RATE="1")
    assert (answer[0], answer[1]["state"]) == (4, "completed_with_failures")
    return answer[1]["batch_id"]


def test_rb_03_a_provider_that_fails_is_paused_and_its_batch_finished_later(home, file):
    rb = Responder("03", home, BATCH=failed_batch(home, file))

    [status] = rb.follow("Check")
    assert status[1]["images"]["failed"] == 2

    paused, resumed, retried = rb.follow("Act")
    assert (paused[0], resumed[0], retried[0]) == (0, 0, 0)

    [status] = rb.follow("Verify")
    assert state_of(status) == "completed"


def test_rb_08_a_bucket_that_is_away_loses_nothing(home, file):
    rb = Responder("08", home, BATCH=failed_batch(home, file))
    away = {"STORAGE_EMULATOR_HOST": "http://127.0.0.1:1"}

    [doctor] = rb.follow("Check", **away)
    assert doctor[0] == 1
    assert state_of_subject(doctor, "bucket") == {"FAIL"}
    [refused] = rb.follow("Act", **away)
    assert (refused[0], refused[1]["error"]["code"]) == (1, "storage-unavailable")

    [retried] = rb.follow("Act")
    assert (retried[0], retried[1]["state"]) == (0, "completed")

    [status] = rb.follow("Verify")
    assert status[1]["images"]["delivered"] == 2


def test_rb_09_a_daemon_that_died_is_started_again(home, file):
    rb = Responder("09", home)
    up = rb.start("Act", "up")
    until(lambda: home.pids("dagster-daemon"))
    up.stdout.readline()
    kill(home.pids("dagster-daemon"))
    _out, err = up.communicate(timeout=DEADLINE_S)
    assert up.returncode == 1
    assert b"dagster-daemon ended" in err

    # For a while yet the last heartbeat is young: what doctor says of an old one is tested beside it.
    [doctor] = rb.follow("Check")
    assert state_of_subject(doctor, "daemons")

    dropped = home.run("submit", file, "--owner", "ada")[1]["batch_id"]
    # Ready: all of its daemons have beaten.
    rb.start("Act", "up").stdout.readline()
    with home.bucket() as store:
        until(lambda: store.stat(BatchFolder(dropped).status))
        until(lambda: read_status(dropped, store=store).state is BatchState.COMPLETED)

    [doctor] = rb.follow("Verify")
    assert state_of_subject(doctor, "daemons") == {"ok"}


def test_rb_11_a_model_that_costs_too_much_is_taken_back_in_one_command(home, file, tmp_path):
    catalogue = tmp_path / "catalogue.toml"
    catalogue.write_text(
        'as_of = "2026-11-24"\nsource = "a test"\n\n[[models]]\nprovider = "local"\n'
        'model = "storyboard-2"\nimage_usd = "0.2"\nnominal = true\n',
        encoding="utf-8",
    )
    ours = {"ASSETGEN_CATALOGUE": str(catalogue)}
    to_candidate = ["--provider", "local", "--model", "storyboard-2", "--percent", "100"]
    assert home.run("rollout", "set", *to_candidate, "--force", **ours)[0] == 0
    assert home.run("run", file, "--owner", "ada", **ours)[1]["spent_usd"] == "0.400000"
    rb = Responder("11", home)

    shown, lanes = rb.follow("Check", **ours)
    assert shown[1]["percent"] == 100
    assert {line["lane"] for line in lanes[1]} == {"candidate"}

    [rolled_back] = rb.follow("Act", **ours)
    assert rolled_back[0] == 0

    [shown] = rb.follow("Verify", **ours)
    assert shown[1]["percent"] == 0
    assert home.run("run", file, "--owner", "ada", **ours)[1]["spent_usd"] == "0.004000"


def test_rb_12_what_a_leaked_link_leads_to_is_gone(home, file):
    batch_id = home.run("run", file, "--owner", "ada")[1]["batch_id"]
    rb = Responder("12", home, BATCH=batch_id)
    with home.bucket() as store:
        link = rows_of(store, batch_id)[0]["image_url_1"]
        with urllib.request.urlopen(link, timeout=DEADLINE_S) as image:
            assert image.status == 200

        for code, _document, _err in rb.follow("Act"):
            assert code == 0

        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(link, timeout=DEADLINE_S)
    assert len(home.attempts(batch_id)[0]) == 2
