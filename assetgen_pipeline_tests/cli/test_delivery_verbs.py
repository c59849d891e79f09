"""`refresh-urls` and `purge` on a real ledger and local bucket."""

import csv
import io
import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from assetgen_pipeline.defs.control import open_instance
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.delivery import LinkLife
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import environment_for_children, load_settings
from assetgen_pipeline.stages.batch_status import read_status, write_status
from assetgen_pipeline.stages.expiry_index import index_links
from assetgen_pipeline.stages.refresh_urls import read_links
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.clock import open_clock
from assetgen_pipeline.wiring.services import open_all
from assetgen_pipeline_tests.fake_deployment import add_run
from assetgen_pipeline_tests.processes import DEADLINE_S, until

pytestmark = pytest.mark.timeout(1200)
RUNNING = "ben.running.0000000b"


@pytest.fixture
def services(assetgen):
    with open_all(load_settings()) as opened:
        yield opened


@pytest.fixture(scope="module")
def batch_id(home, tmp_path_factory):
    """A batch that ran to its end in this HOME."""
    file = tmp_path_factory.mktemp("csv") / "links.csv"
    file.write_text("scene_id,prompt\nS1,a kitchen\n", encoding="utf-8")
    command = [sys.executable, "-m", "assetgen_pipeline", "run", file, "--owner", "ada", "--json"]
    done = subprocess.run(
        command,
        env=environment_for_children(load_settings(home=home)),
        capture_output=True,
        timeout=DEADLINE_S,
        check=True,
    )
    return json.loads(done.stdout)["batch_id"]


def row_of(services, batch_id):
    text = services.store.read(BatchFolder(batch_id).results).decode()
    return next(csv.DictReader(io.StringIO(text)))


SIGNALLED = """
import asyncio, os, sys
from assetgen_pipeline.cli.app import main
from assetgen_pipeline.defs import url_refresh

number = int(sys.argv.pop())

async def interrupted(*_, **__):
    os.kill(os.getpid(), number)
    await asyncio.Event().wait()

url_refresh.refresh_published = interrupted
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_refresh_that_a_signal_ends_says_so_by_its_exit_code(home, batch_id, number):
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, "refresh-urls", batch_id, str(int(number))],
        env=environment_for_children(load_settings(home=home)),
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert done.returncode == 128 + number, done.stderr.decode()
    assert b"Traceback" not in done.stdout


@pytest.mark.slow
def test_refreshing_a_batch_signs_anew_and_says_until_when(assetgen, services, batch_id):
    before = row_of(services, batch_id)
    links = read_links(batch_id, services=services)
    signed_at = datetime.fromisoformat(links.signed_at)
    # Signatures of one second are the same.
    until(lambda: datetime.now(UTC) >= signed_at + timedelta(seconds=1))

    planned = assetgen("refresh-urls", batch_id, "--dry-run", "--json")
    untouched = row_of(services, batch_id)
    answer = assetgen("refresh-urls", batch_id, "--json")

    after = row_of(services, batch_id)
    assert (planned.code, untouched) == (0, before)
    assert planned.document["dry_run"] is True
    assert answer.code == 0
    [one] = answer.document["batches"]
    assert (one["result"], one["urls"], one["signer"]) == ("refreshed", 2, "local")
    assert one["old_expires_at"] == links.expires_at
    assert after["urls_expire_at"] == one["expires_at"] > before["urls_expire_at"]
    assert after["image_url_1"] != before["image_url_1"]
    assert "X-Goog-Signature" not in answer.out + answer.err
    assert read_status(batch_id, store=services.store).state is BatchState.COMPLETED


@pytest.mark.slow
def test_expiring_names_what_ends_soon_and_nothing_else(assetgen, services, batch_id):
    early = assetgen("refresh-urls", "--expiring", "24h", "--json")
    now = open_clock().now()
    soon = LinkLife(signed_at=now, expires_at=now + timedelta(hours=3), published_at=now)
    index_links(batch_id, soon, store=services.store)

    told = assetgen("refresh-urls", "--expiring", "24h", "--dry-run")
    done = assetgen("refresh-urls", "--expiring", "24h")

    assert (early.code, early.document["batches"]) == (0, [])
    assert told.out.startswith(f"would sign  {batch_id}")
    assert (done.code, done.out.split()[:2]) == (0, ["refreshed", batch_id])


def test_one_batch_or_a_time_and_not_both_nor_neither(assetgen):
    assert assetgen("refresh-urls").code == 2
    assert assetgen("refresh-urls", RUNNING, "--expiring", "1h").code == 2


@pytest.mark.parametrize("text", ["soon", "-1h", "8d", "99999999999999d", "1w", ""])
def test_a_time_that_is_none_is_a_usage_error(assetgen, text):
    answer = assetgen("refresh-urls", f"--expiring={text}")

    assert answer.code == 2
    assert "30m or 24h" in answer.err


def test_nothing_that_ends_soon_is_no_failure(assetgen):
    answer = assetgen("refresh-urls", "--expiring", "1m")

    assert (answer.code, answer.out) == (0, "no links end that soon\n")


def test_a_batch_that_runs_signs_its_own_links(assetgen):
    with open_object_store(load_settings()) as store:
        write_status(RUNNING, BatchState.RUNNING, store=store, clock=open_clock())

    answer = assetgen("refresh-urls", RUNNING, "--json")

    assert answer.code == 1
    assert answer.document["error"]["code"] == "storage-conflict"


def test_a_batch_without_results_says_so(assetgen):
    rejected = "ada.rejected.0000000c"
    with open_object_store(load_settings()) as store:
        write_status(rejected, BatchState.REJECTED, store=store, clock=open_clock())

    for batch_id in (rejected, "ada.nobody.0000000d"):
        answer = assetgen("refresh-urls", batch_id, "--json")
        assert answer.code == 1
        assert answer.document["error"]["code"] == "batch-not-found"


@pytest.mark.slow
def test_a_purged_batch_leaves_its_books_and_nothing_else(assetgen, services, batch_id):
    ours = [o.name for o in services.store.list("") if batch_id in o.name]
    facts = [name for name in ours if name.startswith("costs/")]

    planned = assetgen("purge", batch_id, "--dry-run", "--json")
    untouched = [o.name for o in services.store.list("") if batch_id in o.name]
    done = assetgen("purge", batch_id)
    again = assetgen("purge", batch_id)

    assert (planned.code, untouched) == (0, ours)
    assert planned.document["deleted"]["images"] == 1
    assert (done.code, again.code) == (0, 0)
    assert "1 image, 1 thumbnail" in done.out
    assert "no objects are left" in again.out
    assert [o.name for o in services.store.list("") if batch_id in o.name] == facts != []
    assert list(services.store.list("images/")) == []
    assert len(services.ledger.attempts(batch_id)) == 1
    assert assetgen("status", batch_id).code == 1
    with open_instance(load_settings()) as instance:
        assert batch_id not in instance.get_dynamic_partitions("batches")


def test_a_batch_that_runs_is_not_purged(assetgen):
    with open_object_store(load_settings()) as store:
        write_status(RUNNING, BatchState.RUNNING, store=store, clock=open_clock())

    answer = assetgen("purge", RUNNING, "--json")

    assert answer.code == 1
    assert answer.document["error"]["code"] == "storage-conflict"


def test_a_batch_is_not_purged_beside_a_run_of_its_owner_that_has_written_nothing_yet(assetgen):
    batch_id = "eve.published.0000000f"
    with open_object_store(load_settings()) as store, open_instance(load_settings()) as instance:
        write_status(batch_id, BatchState.COMPLETED, store=store, clock=open_clock())
        run = add_run(
            instance, status=dg.DagsterRunStatus.STARTED, batch_id="eve.beginning.00000010"
        )
        planned = assetgen("purge", batch_id, "--dry-run")
        refused = assetgen("purge", batch_id, "--json")
        instance.report_run_failed(run)
        done = assetgen("purge", batch_id)

        assert (planned.code, refused.code, done.code) == (0, 1, 0)
        assert refused.document["error"]["code"] == "storage-conflict"
        assert run.run_id in refused.document["error"]["detail"]
        assert list(store.list(BatchFolder(batch_id).prefix)) == []


def test_results_copies_every_page_of_the_contact_sheet(assetgen, tmp_path):
    batch_id = "ada.pages.0000000e"
    folder = BatchFolder(batch_id)
    pages = ["contact-sheet.html", "contact-sheet-2.html", "contact-sheet-3.html"]
    with open_object_store(load_settings()) as store:
        write_status(batch_id, BatchState.COMPLETED, store=store, clock=open_clock())
        for page in pages:
            store.write(folder.prefix + page, page.encode(), content_type="text/html")

    answer = assetgen("results", batch_id, "-o", tmp_path / "out")

    assert answer.code == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*pages, "status.json"}
    assert (tmp_path / "out" / pages[2]).read_text() == pages[2]
