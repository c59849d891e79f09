"""`purge` and `ledger restore` ask first, where somebody can answer."""

import io
import os
import pty
import subprocess
import sys

import pytest

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import environment_for_children, load_settings
from assetgen_pipeline.stages.batch_status import write_status
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.clock import open_clock
from assetgen_pipeline.wiring.ledger import open_ledger
from assetgen_pipeline_tests.processes import DEADLINE_S

BATCH = "ada.old.0000000a"


class Terminal(io.StringIO):
    """A stream that a person is at."""

    def isatty(self):
        return True


@pytest.fixture
def person(assetgen, monkeypatch):
    """Call `assetgen` on a terminal, with somebody who answers: the answer, and what was asked."""

    def call(*words, says):
        screen = Terminal()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdin", Terminal(says))
            patched.setattr(sys, "stderr", screen)
            answer = assetgen(*words)
        return answer, screen.getvalue()

    return call


@pytest.fixture
def standing(assetgen):
    """Whether the batch still stands."""
    with open_object_store(load_settings()) as store:
        write_status(BATCH, BatchState.COMPLETED, store=store, clock=open_clock())
        yield lambda: store.stat(BatchFolder(BATCH).status) is not None


@pytest.fixture
def backup(assetgen, tmp_path):
    """A backup that has $5 a day for ada; the ledger has $7 by now."""
    file = tmp_path / "books.db"
    assetgen("budget", "set", "ada", "--daily-usd", "5")
    assetgen("ledger", "backup", file)
    assetgen("budget", "set", "ada", "--daily-usd", "7")
    return file


def limit():
    with open_ledger(load_settings()) as ledger:
        return ledger.day("ada").limit


@pytest.mark.parametrize(("says", "purged"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_purge_says_what_it_will_delete_and_waits_for_yes(person, standing, says, purged):
    answer, asked = person("purge", BATCH, says=says)

    assert asked.startswith(f"Delete 1 result file of {BATCH}? [y/N]: ")
    assert standing() is not purged
    assert answer.code == (0 if purged else 1)
    assert ("error  not-confirmed: nothing was changed" in asked) is not purged


def test_an_answer_that_never_comes_changes_nothing(person, standing):
    answer, _ = person("purge", BATCH, says="")

    assert (answer.code, standing()) == (130, True)


@pytest.mark.parametrize(("word", "left"), [("--yes", False), ("--dry-run", True)])
def test_what_is_sure_or_does_nothing_is_not_asked(person, standing, word, left):
    answer, asked = person("purge", BATCH, word, says="n\n")

    assert (answer.code, asked, standing()) == (0, "", left)


def test_without_a_terminal_nothing_is_asked(assetgen, standing, backup):
    purged, restored = assetgen("purge", BATCH), assetgen("ledger", "restore", backup)

    assert (purged.code, purged.err, standing()) == (0, "", False)
    assert (restored.code, restored.err, limit()) == (0, "", Money(5_000_000))


@pytest.mark.parametrize(("says", "usd"), [("y\n", 5), ("n\n", 7)])
def test_a_restore_names_the_books_that_it_replaces_and_waits_for_yes(
    person, home, backup, says, usd
):
    answer, asked = person("ledger", "restore", backup, says=says)

    question = f"Replace the books in {home / 'ledger.db'} by those in {backup}? [y/N]: "
    assert asked.startswith(question)
    assert answer.code == (0 if usd == 5 else 1)
    assert limit() == Money(usd * 1_000_000)


def test_a_restore_names_a_database_without_its_password(person, backup, monkeypatch):
    url = "postgresql+psycopg://me:CANARY@127.0.0.1:9/books"
    monkeypatch.setenv("ASSETGEN_LEDGER_URL", url)

    _, asked = person("ledger", "restore", backup, "--force", says="n\n")

    assert asked.startswith(f"Replace the books in 127.0.0.1/books by those in {backup}? ")
    assert "CANARY" not in asked


@pytest.mark.slow
def test_a_command_on_a_terminal_of_its_own_hears_no(home, backup):
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "assetgen_pipeline", "ledger", "restore", backup, "--json"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment_for_children(load_settings()),
        start_new_session=True,
    )
    try:
        os.write(ours, b"n\n")
        out, _ = child.communicate(timeout=DEADLINE_S)
        asked = ""
        while "? [y/N]: " not in asked:
            # The kernel hands on what was written in parts, and in its own time.
            asked += os.read(ours, 65_536).decode()
    finally:
        child.kill()
        child.communicate()
        os.close(ours)
        os.close(theirs)

    assert child.returncode == 1
    assert b'"not-confirmed"' in out
    assert limit() == Money(7_000_000)
