"""The command: its verbs, documents and exit codes, on a real ledger and local bucket."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import uuid
from importlib import resources
from pathlib import Path

import pytest

from assetgen_pipeline.adapters.parquet_costs import ParquetCostFacts
from assetgen_pipeline.cli import files
from assetgen_pipeline.cli.app import cli, exit_code_of
from assetgen_pipeline.domain.bucket_layout import BatchFolder, batch_id_for, parse_drop
from assetgen_pipeline.domain.errors import (
    AssetgenError,
    BatchRejected,
    BudgetRefused,
    FileProblem,
    LedgerUnavailable,
    ObjectExists,
    RunDied,
    StorageUnavailable,
)
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.problems import problem_document
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.batch_status import write_status
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.clock import open_clock
from assetgen_pipeline_tests.builders import NOW
from assetgen_pipeline_tests.cost_helpers import a_fact
from assetgen_pipeline_tests.processes import DEADLINE_S

SAMPLES = resources.files("assetgen_pipeline") / "data" / "samples"
STORYBOARD = SAMPLES / "storyboard.csv"
INVALID = SAMPLES / "invalid.csv"
BATCH = "ada.spring.0000000a"
# One day for all of this module's facts: tomorrow's would be counted beside them.
TODAY = open_clock().now().date()
EXIT_CODES = {
    "completed": 0,
    "priced": 0,
    "failed": 1,
    "rejected": 2,
    "refused": 3,
    "completed_with_failures": 4,
    "cancelled": 5,
}


@pytest.fixture
def store(assetgen):
    """The bucket that the commands of this module see."""
    with open_object_store(load_settings()) as opened:
        yield opened


@pytest.fixture
def a_status(store):
    def write(batch_id, state, **changes):
        return write_status(batch_id, state, store=store, clock=open_clock(), **changes)

    return write


def drop_id(found, store):
    """The batch that an object of the inbox becomes."""
    drop = parse_drop(found.name)
    return batch_id_for(
        owner=drop.owner,
        stem=drop.stem,
        bucket=store.bucket,
        name=found.name,
        generation=found.generation,
    )


def test_help_lists_every_verb_and_loads_neither_dagster_nor_google():
    script = (
        "import sys; sys.argv = ['assetgen', '--help']\n"
        "from assetgen_pipeline.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'dagster', 'google', 'PIL', 'pandas', 'pyarrow', 'sqlalchemy'}\n"
        "print('loaded', sorted(heavy & {name.partition('.')[0] for name in sys.modules}), code)"
    )

    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )

    assert done.stdout.splitlines()[-1] == "loaded [] 0"
    verbs = set(re.findall(r"^  ([a-z][a-z-]+) {2,}\S", done.stdout, re.MULTILINE))
    assert verbs == {
        "demo", "up", "template", "validate", "submit", "run", "retry", "cancel", "approve",
        "pause", "resume", "watch", "status", "results", "refresh-urls", "purge", "costs",
        "budget", "rollout", "ledger", "loadtest", "metrics",
        "support-bundle", "doctor",
    }  # fmt: skip


@pytest.mark.parametrize("verb", cli.list_commands(None))
def test_every_verb_in_the_help_is_one_that_explains_itself(assetgen, verb):
    answer = assetgen(verb, "--help")

    assert answer.code == 0
    assert answer.out.startswith("Usage:")


def test_a_verb_that_nobody_wrote_is_a_usage_error(assetgen):
    answer = assetgen("generate-everything")

    assert answer.code == 2
    assert "No such command" in answer.err


def test_the_template_is_a_valid_file(assetgen, tmp_path):
    template = tmp_path / "template.csv"
    template.write_text(assetgen("template").out, encoding="utf-8")

    answer = assetgen("validate", template, "--json")

    assert answer.code == 0
    assert answer.document["valid"] is True
    assert answer.document["problems"] == []


def test_validate_prices_a_file_without_bucket_or_ledger(assetgen, tmp_path, monkeypatch):
    monkeypatch.setenv("ASSETGEN_HOME", str(tmp_path / "home"))

    answer = assetgen("validate", STORYBOARD, "--json")

    assert answer.code == 0
    document = answer.document
    assert (document["rows"], document["images"]) == (12, 16)
    assert document["estimate_usd"] == "0.032000"
    assert document["price_is_nominal"] is True
    assert not (tmp_path / "home").exists()


def test_validate_names_every_problem_of_a_file_with_line_and_column(assetgen):
    answer = assetgen("validate", INVALID, "--json")

    assert answer.code == 2
    document = answer.document
    assert document["valid"] is False
    assert document["problem_count"] == len(document["problems"]) >= 8
    assert {problem["line"] for problem in document["problems"]} == {3, 4, 5, 6, 7, 8, 9}
    assert all(p["code"] and p["detail"] for p in document["problems"])


def test_validate_tells_people_the_same_problems(assetgen):
    documented = assetgen("validate", INVALID, "--json").document["problems"]

    answer = assetgen("validate", INVALID)

    assert answer.code == 2
    assert answer.out.startswith(f"REJECTED invalid.csv: {len(documented)} problems")
    assert all(f"{problem['code']}: {problem['detail']}" in answer.out for problem in documented)


def test_a_file_that_is_not_there_is_a_usage_error(assetgen, tmp_path):
    assert assetgen("validate", tmp_path / "none.csv").code == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AssetgenError("x"), 1),
        (StorageUnavailable("x"), 1),
        (LedgerUnavailable("x"), 1),
        (BatchRejected([FileProblem(2, "prompt", "row-invalid", "empty")]), 2),
        (
            BudgetRefused(
                estimate=Money(2), headroom=Money(1), limit=Money(1), resets_at=NOW, scope="owner"
            ),
            3,
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_an_error_has_an_exit_code(error, code):
    assert exit_code_of(error) == code


def test_an_error_is_one_json_document_on_stdout_and_two_lines_on_stderr(assetgen):
    answer = assetgen("status", BATCH, "--json")

    assert answer.code == 1
    assert answer.document["error"]["detail"] == f"no batch {BATCH}"
    assert answer.err.splitlines() == [
        f"error  batch-not-found: no batch {BATCH}",
        "fix    `assetgen status` lists the batches.",
    ]


@pytest.mark.parametrize("verb", [["status"], ["watch"], ["retry"], ["results", "-o", "out"]])
@pytest.mark.parametrize("batch", ["nonsense", "ada.spring", "../../etc/passwd"])
def test_text_that_is_no_batch_id_is_refused_with_its_form(
    assetgen, tmp_path, monkeypatch, verb, batch
):
    monkeypatch.chdir(tmp_path)

    answer = assetgen(*verb, batch, "--json")

    assert answer.code == 2
    assert "is not a batch id (owner.name.8-hex-digits)" in answer.document["error"]["detail"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", [["status"], ["retry"], ["results", "-o", "out"]])
def test_a_batch_that_nobody_knows_is_an_error(assetgen, tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)

    answer = assetgen(*verb, "ada.never.ffffffff", "--json")

    assert answer.code == 1
    assert answer.document["error"]["detail"] == "no batch ada.never.ffffffff"


@pytest.mark.parametrize(
    "verb",
    [
        ["status"],
        ["budget", "show", "ada"],
        ["ledger", "verify"],
        ["costs"],
        ["validate", str(STORYBOARD)],
    ],
)
def test_a_wrong_setting_ends_every_verb_with_the_name_of_the_variable(assetgen, monkeypatch, verb):
    monkeypatch.setenv("ASSETGEN_MAX_ROWS", "abc")

    answer = assetgen(*verb, "--json")

    assert answer.code == 2
    assert answer.document["error"]["detail"].startswith("ASSETGEN_MAX_ROWS: ")
    assert "ASSETGEN_MAX_ROWS" in answer.err


def test_submit_drops_the_file_in_its_owners_inbox_under_the_id_that_it_names(assetgen, store):
    answer = assetgen("submit", STORYBOARD, "--owner", "dora", "--json")

    assert answer.code == 0
    assert answer.document["batch_id"].startswith("dora.storyboard.")
    assert store.read("inbox/dora/storyboard.csv") == STORYBOARD.read_bytes()


def test_a_file_submitted_twice_is_two_batches_also_while_the_first_waits(assetgen, store):
    ids = [
        assetgen("submit", STORYBOARD, "--owner", "theo", "--json").document["batch_id"]
        for _ in range(2)
    ]

    waiting = {drop_id(found, store) for found in store.list("inbox/theo/")}
    assert len(waiting) == 2
    assert waiting == set(ids)


def test_a_drop_whose_answer_was_lost_is_not_dropped_again(store, monkeypatch):
    create = type(store).create

    def forgetful(self, *names, **options):
        create(self, *names, **options)
        raise ObjectExists("what the retry of our own upload meets")

    monkeypatch.setattr(type(store), "create", forgetful)

    batch_id = files.drop_file(Path(str(STORYBOARD)), owner="uma", dry_run=False, store=store)

    assert [drop_id(found, store) for found in store.list("inbox/uma/")] == [batch_id]


def test_submit_of_a_dry_run_goes_to_the_dry_run_folder(assetgen, store):
    assert assetgen("submit", STORYBOARD, "--owner", "dora", "--dry-run").code == 0

    assert store.stat("inbox/dora/dry-run/storyboard.csv") is not None


def test_submit_of_an_invalid_file_warns_of_every_problem_and_drops_it_all_the_same(
    assetgen, store
):
    problems = assetgen("validate", INVALID, "--json").document["problems"]

    answer = assetgen("submit", INVALID, "--owner", "dora", "--json")

    assert answer.code == 0
    assert answer.document["batch_id"].startswith("dora.invalid.")
    assert store.read("inbox/dora/invalid.csv") == INVALID.read_bytes()
    first, *lines = answer.err.splitlines()
    assert first.startswith(f"warning invalid.csv: {len(problems)} problems; it will be rejected")
    assert len(lines) == len(problems)
    assert all(
        f"line {problem['line']} " in line and problem["detail"] in line
        for problem, line in zip(problems, lines, strict=True)
    )


def test_submit_of_a_valid_file_warns_of_nothing(assetgen, store):
    assert assetgen("submit", STORYBOARD, "--owner", "dora").err == ""


@pytest.mark.parametrize("verb", ["validate", "submit", "run"])
@pytest.mark.parametrize("owner", ["../ada", "BAD OWNER"])
def test_an_owner_that_is_no_folder_is_refused(assetgen, store, verb, owner):
    answer = assetgen(verb, STORYBOARD, "--owner", owner, "--json")

    assert answer.code == 2
    assert answer.document["error"]["code"] == "owner-invalid"


def test_submit_refuses_a_file_that_the_sensor_would_leave_alone(assetgen, store, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("scene_id,prompt\nS1,x\n", encoding="utf-8")

    answer = assetgen("submit", notes, "--owner", "nora")

    assert answer.code == 2
    assert list(store.list("inbox/nora/")) == []


@pytest.mark.parametrize("verb", ["validate", "submit"])
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_a_file_name_in_another_encoding_is_shown_and_never_dropped(
    assetgen, store, tmp_path, verb, form
):
    file = tmp_path / os.fsdecode(b"caf\xe9.csv")
    file.write_bytes(STORYBOARD.read_bytes())

    answer = assetgen(verb, file, "--owner", "lena", *form)

    assert answer.code == (0 if verb == "validate" else 2)
    # What the terminal gets is text: no lone surrogate.
    assert b"caf" in (answer.out + answer.err).encode()
    assert list(store.list("inbox/lena/")) == []


def test_status_of_one_batch_is_its_status_document(assetgen, a_status, store):
    a_status("ada.one.00000001", BatchState.RUNNING, rows=3)

    answer = assetgen("status", "ada.one.00000001", "--json")

    assert answer.code == 0
    assert answer.document == json.loads(store.read(BatchFolder("ada.one.00000001").status))


def test_status_lists_every_batch_oldest_first(assetgen, a_status):
    a_status("zoe.late.00000002", BatchState.COMPLETED, started_at="2026-02-02T00:00:00+00:00")
    a_status("zoe.early.00000003", BatchState.FAILED, started_at="2026-01-01T00:00:00+00:00")

    listed = [one["batch_id"] for one in assetgen("status", "--json").document]
    lines = assetgen("status").out

    assert listed.index("zoe.early.00000003") < listed.index("zoe.late.00000002")
    assert lines.index("zoe.early.00000003") < lines.index("zoe.late.00000002")


def problem_of(error, batch_id):
    return problem_document(error, batch_id=batch_id, instance=str(uuid.uuid4()))


@pytest.mark.parametrize("verb", ["status", "watch"])
def test_people_are_told_every_problem_of_a_rejected_file_with_its_code(assetgen, a_status, verb):
    errors = [
        FileProblem(2, "prompt", "row-invalid", "empty"),
        FileProblem(3, "", "csv-malformed", "6 cells, and the header has 2"),
    ]
    problem = problem_of(BatchRejected(errors, total=7), "ada.bad.00000004")
    a_status("ada.bad.00000004", BatchState.REJECTED, problem=problem)

    said = assetgen(verb, "ada.bad.00000004").out.splitlines()

    assert said[0].startswith("rejected")
    assert said[1:] == [
        "  7 problems",
        "  line 2, prompt  row-invalid: empty",
        "  line 3  csv-malformed: 6 cells, and the header has 2",
        "  fix: Correct the lines named and drop the file again.",
    ]


def test_people_are_told_what_ended_a_batch_with_its_code(assetgen, a_status):
    problem = problem_of(RunDied("killed"), "ada.dead.00000005")
    a_status("ada.dead.00000005", BatchState.FAILED, problem=problem)

    out = assetgen("status", "ada.dead.00000005").out

    assert "  internal: The process that worked on the batch ended before its work did.\n" in out
    assert "  fix: `assetgen retry ada.dead.00000005` makes what is missing" in out


@pytest.mark.parametrize(("state", "code"), EXIT_CODES.items())
def test_watching_a_batch_that_ended_gives_the_exit_code_of_its_state(
    assetgen, a_status, state, code
):
    batch_id = f"ada.{state}.0000000b"
    a_status(batch_id, BatchState(state), finished_at=NOW.isoformat())

    answer = assetgen("watch", batch_id, "--json")

    assert answer.code == code
    assert answer.document["state"] == state


def test_results_copies_the_files_that_a_batch_has(assetgen, a_status, store, tmp_path):
    batch_id = "ada.done.0000000c"
    folder = BatchFolder(batch_id)
    a_status(batch_id, BatchState.COMPLETED)
    store.write(folder.results, b"scene_id\nS1\n", content_type="text/csv")
    store.write(folder.contact_sheet, b"<html>", content_type="text/html")
    output = tmp_path / "deep" / "er"

    answer = assetgen("results", batch_id, "-o", output, "--json")

    assert answer.code == 0
    names = {"results.csv", "contact-sheet.html", "status.json"}
    assert {path.name for path in output.iterdir()} == names
    assert sorted(answer.document["files"]) == sorted(str(output / name) for name in names)
    assert (output / "results.csv").read_bytes() == b"scene_id\nS1\n"


@pytest.fixture
def facts(store):
    rows = [
        a_fact(day=TODAY),
        a_fact(day=TODAY, owner="ben", scene_id="S2", attempts=3, cost_micros=50_000),
        a_fact(day=TODAY, owner="ben", scene_id="S3", status="failed", cost_micros=0),
        a_fact(day=TODAY, owner="ben", scene_id="S4", status="retried", attempts=0, cost_micros=0),
    ]
    ParquetCostFacts(store).publish(BATCH, TODAY, rows)


def test_costs_are_summed_by_owner_dearest_first(assetgen, facts):
    answer = assetgen("costs", "--json")

    assert answer.code == 0
    assert answer.document == [
        {"owner": "ben", "images": 2, "delivered": 1, "attempts": 4, "cost_usd": "0.050000"},
        {"owner": "ada", "images": 1, "delivered": 1, "attempts": 1, "cost_usd": "0.002000"},
    ]


@pytest.mark.parametrize(
    ("by", "column"),
    [
        ("owner", "owner"),
        ("provider", "provider"),
        ("model", "model"),
        ("day", "dt"),
        ("batch", "batch_id"),
        ("status", "status"),
        ("lane", "lane"),
    ],
)
def test_costs_come_by_each_of_these_as_csv(assetgen, facts, by, column):
    answer = assetgen("costs", "--by", by, "--format", "csv")

    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert list(rows[0]) == [column, "images", "delivered", "attempts", "cost_usd"]
    assert sum(int(row["images"]) for row in rows) == 3


def test_costs_as_a_table_name_their_columns(assetgen, facts):
    first, *rows = assetgen("costs", "--by", "status").out.splitlines()

    assert first.split() == ["status", "images", "delivered", "attempts", "cost_usd"]
    assert len(rows) == 3


@pytest.mark.parametrize("since", ["yesterday", "1w", "-3d", "2026-13-01", "9999999999d"])
def test_costs_since_something_that_is_no_span_is_a_usage_error(assetgen, since):
    assert assetgen("costs", f"--since={since}").code == 2


def test_a_budget_that_is_set_is_shown(assetgen):
    before = assetgen("budget", "show", "carl", "--json")
    changed = assetgen("budget", "set", "carl", "--daily-usd", "25.5", "--json")
    after = assetgen("budget", "show", "carl", "--json")

    assert (before.code, changed.code, after.code) == (0, 0, 0)
    assert before.document["limit_usd"] == "10.000000"
    assert changed.document == after.document
    assert after.document["limit_usd"] == after.document["headroom_usd"] == "25.500000"


@pytest.mark.parametrize("amount", ["lots", "-1", "NaN", "1e400", "0.0000001", "5.0000001"])
def test_a_budget_that_is_no_amount_is_a_usage_error_and_changes_nothing(assetgen, amount):
    answer = assetgen("budget", "set", "dave", f"--daily-usd={amount}")

    assert answer.code == 2
    assert assetgen("budget", "show", "dave", "--json").document["limit_usd"] == "10.000000"


def test_a_budget_of_nobody_is_an_error(assetgen):
    assert assetgen("budget", "show", "Not An Owner").code == 2


def test_ledger_verify_lists_every_invariant_and_finds_none_broken(assetgen):
    answer = assetgen("ledger", "verify", "--json")

    assert answer.code == 0
    assert len(answer.document) >= 5
    assert all(check["sentence"] and check["violations"] == [] for check in answer.document)
    assert assetgen("ledger", "verify").out.count("ok ") == len(answer.document)


def test_ledger_verify_ends_with_1_where_an_invariant_is_broken(assetgen, home):
    import sqlite3  # noqa: PLC0415 - seeds the bug past the ledger's own code

    assetgen("budget", "set", "mallory", "--daily-usd", "1")
    books = sqlite3.connect(home / "ledger.db")
    try:
        books.execute("pragma ignore_check_constraints = on")
        tables = {
            row[0] for row in books.execute("select name from sqlite_master where type='table'")
        }
        [days] = [t for t in tables if "day" in t]
        columns = [row[1] for row in books.execute(f"pragma table_info({days})")]
        [settled] = [c for c in columns if c.startswith("settled")]
        before = books.execute(f"select rowid, {settled} from {days}").fetchall()
        assert before
        books.execute(f"update {days} set {settled} = {settled} + 7")
        books.commit()

        answer = assetgen("ledger", "verify", "--json")

        for rowid, value in before:
            books.execute(f"update {days} set {settled} = ? where rowid = ?", (value, rowid))
        books.commit()
    finally:
        books.close()
    assert answer.code == 1
    assert any(check["violations"] for check in answer.document)
    assert assetgen("ledger", "verify").code == 0
