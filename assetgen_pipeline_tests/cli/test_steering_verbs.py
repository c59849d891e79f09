"""cancel, pause, resume, approve and retry, on a real instance, ledger and local bucket."""

import dagster as dg
import pytest

from assetgen_pipeline.defs import control
from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.approvals import ApprovalPolicy, must_wait, read_approval
from assetgen_pipeline.stages.batch_files import rows_of
from assetgen_pipeline.stages.batch_status import read_status, write_status
from assetgen_pipeline.stages.orders import read_order
from assetgen_pipeline.stages.parse_batch import claim_metadata
from assetgen_pipeline.stages.pausing import read_pauses
from assetgen_pipeline.stages.waiting_batches import read_waiting, wait_for
from assetgen_pipeline.wiring.deployment import csv_limits
from assetgen_pipeline.wiring.services import open_all
from assetgen_pipeline_tests.builders import a_csv
from assetgen_pipeline_tests.fake_deployment import add_run

CSV = a_csv(["S1", "a kitchen"], ["S2", "a harbour"], ["S3", "a street"])


@pytest.fixture
def services(assetgen):
    with open_all(load_settings()) as opened:
        yield opened


@pytest.fixture
def a_batch(services):
    """A batch as `run` uploads it, in the state given."""

    def make(batch_id, state=BatchState.RECEIVED, csv=CSV, **changes):
        services.store.write(
            BatchFolder(batch_id).request,
            csv,
            content_type="text/csv",
            metadata=claim_metadata(run_id="", dry_run=False, clock=services.clock),
        )
        write_status(batch_id, state, store=services.store, clock=services.clock, **changes)
        return batch_id

    return make


@pytest.fixture
def nothing_paused(assetgen):
    yield
    assetgen("resume", "--all")


@pytest.fixture
def dropped(assetgen, tmp_path):
    file = tmp_path / "three.csv"
    file.write_bytes(CSV)
    return assetgen("submit", file, "--owner", "ida", "--json").document["batch_id"]


def test_a_batch_in_the_inbox_is_cancelled_with_every_row_listed(assetgen, services, dropped):
    answer = assetgen("cancel", dropped, "--json")

    assert answer.code == 0
    assert answer.document["state"] == "cancelled"
    assert answer.document["images"]["not_attempted"] == 3
    assert answer.document["problem"]["code"] == "cancelled"
    assert f"`assetgen retry {dropped}` goes on" in answer.document["problem"]["fix"]
    assert list(services.store.list("inbox/")) == []
    results = services.store.read(BatchFolder(dropped).results).decode()
    assert results.count("not_attempted") == results.count("cancelled") == 3


def test_cancelling_again_changes_nothing(assetgen, services, a_batch):
    batch_id = a_batch("ada.twice.00000001")
    first = assetgen("cancel", batch_id, "--json")

    again = assetgen("cancel", batch_id, "--json")

    assert (first.code, again.code) == (0, 0)
    assert again.document == first.document


def test_a_batch_that_ended_has_nothing_to_cancel_and_stays_as_it_is(assetgen, services, a_batch):
    batch_id = a_batch("ada.done.00000002", BatchState.COMPLETED)

    answer = assetgen("cancel", batch_id)

    assert answer.code == 0
    assert answer.out == f"nothing to cancel: {batch_id} is completed\n"
    assert read_order(batch_id, store=services.store) is None


@pytest.mark.parametrize(
    ("state", "would"), [(BatchState.RUNNING, "cancel"), (BatchState.FAILED, "nothing")]
)
def test_a_dry_run_of_cancel_says_what_it_would_do_and_does_not(
    assetgen, services, a_batch, state, would
):
    batch_id = a_batch(f"ada.{state.value}.00000003", state)

    answer = assetgen("cancel", batch_id, "--dry-run", "--json")

    said = {"batch_id": batch_id, "state": state.value, "would": would}
    assert answer.document == {"dry_run": True, **said}
    assert read_status(batch_id, store=services.store).state is state
    assert read_order(batch_id, store=services.store) is None


def test_a_batch_that_waits_is_cancelled_and_waits_no_more(assetgen, services, a_batch):
    batch_id = a_batch("ada.waits.00000004")
    wait_for("pause", batch_id, store=services.store, clock=services.clock)

    assert assetgen("cancel", batch_id).code == 0

    assert read_waiting(batch_id, store=services.store) is None


def test_a_pause_is_shown_kept_and_lifted(assetgen, services, nothing_paused):
    shown = assetgen("pause", "--owner", "ada", "--why", "the bill", "--json").document["pauses"]
    again = assetgen("pause", "--owner", "ada", "--json").document["pauses"]
    listed = assetgen("pause", "--json").document["pauses"]
    in_words = assetgen("status").out
    lifted = assetgen("resume", "--owner", "ada", "--json").document["pauses"]
    lifted_again = assetgen("resume", "--owner", "ada")

    assert [(pause["scope"], pause["name"], pause["why"]) for pause in shown] == [
        ("owner", "ada", "the bill")
    ]
    assert shown == again == listed
    assert "owner ada is paused by " in in_words
    assert lifted == []
    assert (lifted_again.code, lifted_again.out) == (0, "nothing is paused\n")


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_dry_run_of_pause_and_resume_changes_nothing(assetgen, services, nothing_paused, verb):
    assetgen("pause", "--provider", "gemini")
    before = read_pauses(store=services.store)

    answer = assetgen(verb, "--owner", "ada", "--dry-run")

    assert answer.code == 0
    assert answer.out.startswith("nothing is changed; then in force:")
    assert read_pauses(store=services.store) == before


@pytest.mark.parametrize(
    "words",
    [
        ("pause", "--provider", "gemni"),
        ("pause", "--owner", "ada", "--all"),
        ("resume",),
        ("resume", "--provider", "local", "--owner", "ada"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(assetgen, services, words):
    assert assetgen(*words).code == 2
    assert read_pauses(store=services.store).pauses == ()


def test_an_owner_that_cannot_exist_is_not_paused(assetgen, services):
    assert assetgen("pause", "--owner", "../ada").code == 2
    assert read_pauses(store=services.store).pauses == ()


def test_status_says_what_holds_a_batch_up(assetgen, services, a_batch, nothing_paused):
    batch_id = a_batch("ada.held.00000005", BatchState.RUNNING)
    wait_for("pause", batch_id, store=services.store, clock=services.clock)
    assetgen("pause", "--all", "--why", "a leak")

    held = assetgen("status", batch_id).out
    assetgen("resume", "--all")
    free = assetgen("status", batch_id).out

    assert "everything is paused by " in held
    assert "a leak" in held
    assert "resumed; " in free


def awaiting(services, batch_id):
    batch = rows_of(batch_id, limits=csv_limits(load_settings()), store=services.store)
    policy = ApprovalPolicy(above=Money(1))
    assert must_wait(batch, Money(6_000), policy=policy, services=services)


def test_a_dry_run_of_approve_shows_the_amount_and_records_nothing(assetgen, services, a_batch):
    batch_id = a_batch("ada.dear.00000006")
    awaiting(services, batch_id)

    answer = assetgen("approve", batch_id, "--dry-run", "--json")

    assert answer.code == 0
    assert answer.document["amount_usd"] == "0.006000"
    assert answer.document["dry_run"] is True
    assert read_approval(batch_id, store=services.store) is None
    assert "assetgen approve" in assetgen("status", batch_id).out


def test_an_approval_is_recorded_once_and_handed_to_the_daemon(
    assetgen, services, a_batch, monkeypatch
):
    monkeypatch.setattr("assetgen_pipeline.defs.steering.daemon_is_alive", lambda _settings: True)
    batch_id = a_batch("ada.dearer.00000007")
    awaiting(services, batch_id)

    answer = assetgen("approve", batch_id, "--json")
    again = assetgen("approve", batch_id, "--json")

    assert (answer.code, again.code) == (0, 0)
    assert answer.document == again.document
    assert answer.document["approved_by"]
    assert read_waiting(batch_id, store=services.store).cause == "run"
    assert read_status(batch_id, store=services.store).state is BatchState.RECEIVED


def test_a_batch_that_does_not_wait_cannot_be_approved(assetgen, services, a_batch):
    batch_id = a_batch("ada.cheap.00000008", BatchState.COMPLETED)

    answer = assetgen("approve", batch_id, "--json")

    assert answer.code == 1
    assert "does not wait for approval" in answer.document["error"]["detail"]


def test_a_dry_run_of_retry_prices_what_is_missing_and_changes_nothing(assetgen, services, a_batch):
    batch_id = a_batch("ada.plan.00000009", BatchState.FAILED)

    answer = assetgen("retry", batch_id, "--rows", "S3,S1", "--dry-run", "--json")

    assert answer.code == 0
    assert answer.document == {
        "dry_run": True,
        "batch_id": batch_id,
        "state": "failed",
        "rows": 2,
        "scenes": ["S1", "S3"],
        "images": 2,
        "estimate_usd": "0.004000",
        "headroom_usd": "10.000000",
        "fits": True,
        "runs_by": "here",
    }
    assert read_order(batch_id, store=services.store) is None
    assert read_status(batch_id, store=services.store).state is BatchState.FAILED
    in_words = assetgen("retry", batch_id, "--dry-run").out
    assert "would make 3 images of 3 rows, at most $0.006000" in in_words


def test_a_dry_run_of_retry_heeds_the_deployments_limit_too(assetgen, a_batch, monkeypatch):
    batch_id = a_batch("ada.plan.00000009", BatchState.FAILED)
    monkeypatch.setenv("ASSETGEN_PROJECT_DAILY_LIMIT_USD", "0.003")

    answer = assetgen("retry", batch_id, "--rows", "S3,S1", "--dry-run", "--json")

    assert (answer.document["headroom_usd"], answer.document["fits"]) == ("0.003000", False)


@pytest.mark.parametrize(
    ("rows", "named"), [("S1,S9,nine", "S9, nine"), (" , ", "no scene is named")]
)
def test_rows_that_are_not_in_the_batch_are_a_usage_error_that_lists_them(
    assetgen, services, a_batch, rows, named
):
    batch_id = a_batch("ada.rows.0000000a", BatchState.FAILED)

    answer = assetgen("retry", batch_id, "--rows", rows)

    assert answer.code == 2
    assert named in answer.err
    assert read_order(batch_id, store=services.store) is None


def test_a_batch_that_a_live_run_works_on_is_not_retried(assetgen, services, a_batch):
    batch_id = a_batch("ada.busy.0000000b", BatchState.RUNNING)
    with control.open_instance(load_settings()) as instance:
        run = add_run(
            instance,
            status=dg.DagsterRunStatus.STARTED,
            batch_id=batch_id,
            assetgen__worker=worker_identity(),
        )

        answer = assetgen("retry", batch_id, "--json")
        plan = assetgen("retry", batch_id, "--dry-run", "--json")
        instance.report_run_canceled(run)

    assert answer.code == 1
    assert run.run_id in answer.document["error"]["detail"]
    assert answer.document["error"]["fix"] == (
        f"`assetgen watch {batch_id}` follows it, `assetgen cancel {batch_id}` stops it."
    )
    assert plan.document["runs_by"] == "nobody: a run is live"
    assert read_status(batch_id, store=services.store).state is BatchState.RUNNING


def test_a_batch_still_in_the_inbox_is_left_to_the_daemon(assetgen, dropped):
    answer = assetgen("retry", dropped, "--json")

    assert answer.code == 1
    assert "still in the inbox" in answer.document["error"]["detail"]


def test_an_invalid_file_has_no_plan(assetgen, a_batch):
    batch_id = a_batch("ada.bad.0000000c", BatchState.REJECTED, csv=b"scene_id,prompt\nS1,\n")

    assert assetgen("retry", batch_id, "--dry-run").code == 2


def test_a_retry_beside_a_live_daemon_is_handed_to_it_with_its_rows(
    assetgen, services, a_batch, monkeypatch
):
    """The daemon is played by this test: it takes the batch up and ends it."""
    batch_id = a_batch("ada.handed.0000000d", BatchState.CANCELLED)
    problem = {"code": "cancelled", "title": "Cancelled"}
    ended = {"store": services.store, "clock": services.clock, "problem": problem}
    write_status(batch_id, BatchState.CANCELLED, **ended)

    def alive(_settings):
        return True

    def taken_up(batch, **_options):
        status = read_status(batch, store=services.store)
        assert (status.state, status.finished_at) == (BatchState.RECEIVED, None)
        assert status.problem is None
        assert read_waiting(batch, store=services.store).cause == "run"
        write_status(
            batch,
            BatchState.COMPLETED_WITH_FAILURES,
            store=services.store,
            clock=services.clock,
        )
        return True

    monkeypatch.setattr("assetgen_pipeline.defs.steering.daemon_is_alive", alive)
    monkeypatch.setattr("assetgen_pipeline.cli.retrying._taken_up", taken_up)

    answer = assetgen("retry", batch_id, "--rows", "S2", "--json")

    assert answer.code == 4
    assert read_order(batch_id, store=services.store).rows == ("S2",)


def test_a_retry_runs_here_where_the_daemon_died_before_it_took_the_batch_up(
    assetgen, services, a_batch, monkeypatch
):
    batch_id = a_batch("ada.orphan.0000000e", BatchState.FAILED)
    answers = iter([True, False])
    monkeypatch.setattr(
        "assetgen_pipeline.defs.steering.daemon_is_alive", lambda _settings: next(answers)
    )
    monkeypatch.setattr("assetgen_pipeline.cli.retrying._TAKE_UP_S", 0.0)

    answer = assetgen("retry", batch_id, "--rows", "S2", "--json")

    assert answer.code == 4
    assert answer.document["images"] == {
        "requested": 3, "delivered": 1, "failed": 0, "blocked": 0, "not_attempted": 2,
    }  # fmt: skip
    assert read_waiting(batch_id, store=services.store) is None
