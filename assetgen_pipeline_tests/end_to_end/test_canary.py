"""The canary: secrets that are easy to recognise go through whole batches, then everything is searched.

Our own links may stand in `results.csv` and nowhere else; what a user's reference URL
carries stands where his file's cells do; keys stand nowhere.
"""

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import dataclass

import pyarrow.parquet as pq
import pytest
from PIL import Image
from pytest_httpserver import HTTPServer

from assetgen_pipeline.settings import environment_for_children, load_settings
from assetgen_pipeline_tests.builders import a_csv
from assetgen_pipeline_tests.processes import DEADLINE_S, processes_of, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

REFERENCE = "CANARYreference0123456789"
KEYS = {
    "GEMINI_API_KEY": "AIzaCANARYgemini0123456789",
    "OPENAI_API_KEY": "sk-CANARYopenai0123456789",
    "ASSETGEN_ALERT_WEBHOOK_URL": "https://hooks.test/CANARYwebhook0123456789",
}
HEADER = ("scene_id", "prompt", "reference_urls")
OF_THE_FILE = {"request.csv", "results.csv", "failed.csv", "manifest.json"}


@dataclass(frozen=True)
class Searched:
    """Everything that the batches left: files by path, and what was printed."""

    files: dict[str, bytes]
    printed: bytes
    signatures: set[str]

    def holding(self, secret):
        return {name for name, data in self.files.items() if secret.encode() in data}


@pytest.fixture(scope="module")
def pictures():
    """A server of references: good, missing, broken, moved, and moved to where nobody may go."""
    data = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(data, "PNG")
    with HTTPServer(host="127.0.0.1") as server:
        server.expect_request("/good.png").respond_with_data(
            data.getvalue(), content_type="image/png"
        )
        server.expect_request("/missing.png").respond_with_data("gone", status=404)
        server.expect_request("/broken.png").respond_with_data(REFERENCE, status=500)
        server.expect_request("/moved.png").respond_with_data(
            "", status=302, headers={"Location": f"/missing.png?token={REFERENCE}"}
        )
        server.expect_request("/inside.png").respond_with_data(
            "", status=302, headers={"Location": f"https://10.0.0.1/?token={REFERENCE}"}
        )
        yield server


@pytest.fixture(scope="module")
def searched(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("canary")
    home = folder / "home"
    environment = {
        **environment_for_children(load_settings(home=home)),
        **KEYS,
        "ASSETGEN_REFERENCE_ALLOWED_NETWORKS": "127.0.0.0/8",
        "ASSETGEN_REFERENCE_RETRIES": "0",
        "ASSETGEN_LOCAL_FAILURE_RATE": "0.4",
        "ASSETGEN_LOCAL_SEED": "7",
    }
    printed = []

    def assetgen(*words, **settings):
        done = subprocess.run(
            [sys.executable, "-m", "assetgen_pipeline", *map(str, words)],
            env={**environment, **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )
        printed.append(done.stdout + done.stderr)
        return done

    def file(name, rows):
        path = folder / f"{name}.csv"
        path.write_bytes(a_csv(*rows, header=HEADER))
        return path

    def url(picture):
        return f"{pictures.url_for(f'/{picture}.png')}?X-Goog-Signature={REFERENCE}&sig={REFERENCE}"

    rows = [
        (f"S{n}", f"scene {n}", url(picture))
        for n, picture in enumerate(["good", "missing", "broken", "moved", "inside"])
    ]
    done = assetgen("run", file("mixed", rows), "--owner", "ada", "--json")
    batch_id = json.loads(done.stdout)["batch_id"]
    signatures = signatures_of(home, batch_id)
    bad = [("S1", "p", f"ftp://x.test/?token={REFERENCE}"), ("S1", "", url("good"))]
    assert assetgen("run", file("bad", bad), "--owner", "ada").returncode == 2
    refused = assetgen(
        "run", file("dear", rows), "--owner", "bob", ASSETGEN_DAILY_LIMIT_USD="0.001"
    )
    assert refused.returncode == 3
    for words in (
        ("refresh-urls", batch_id),
        ("status", batch_id),
        ("results", batch_id, "-o", folder / "copied"),
        ("costs", "--by", "batch"),
    ):
        assert assetgen(*words).returncode == 0
    signatures |= signatures_of(home, batch_id)
    # The bucket ends a moment after its last user, and takes files with it.
    until(lambda: not processes_of(home))
    files = {
        str(path.relative_to(home)): text_of(path) for path in home.rglob("*") if path.is_file()
    }
    return Searched(files=files, printed=b"".join(printed), signatures=signatures)


def signatures_of(home, batch_id):
    (results,) = home.rglob(f"{batch_id}/results.csv")
    rows = list(csv.DictReader(io.StringIO(results.read_text(encoding="utf-8"))))
    assert {row["status"] for row in rows} == {"delivered", "failed"}
    links = {row[f"{kind}_url_1"] for row in rows for kind in ("image", "thumbnail")} - {""}
    return {re.search(r"X-Goog-Signature=([0-9a-f]{512})", link)[1] for link in links}


def text_of(path):
    """A file's bytes; of a Parquet file, which is compressed, what it says."""
    if path.suffix == ".parquet":
        return str(pq.read_table(path).to_pylist()).encode()
    return path.read_bytes()


def test_our_links_stand_in_the_results_and_nowhere_else(searched):
    holding = {name for one in searched.signatures for name in searched.holding(one)}

    assert len(searched.signatures) >= 4
    assert {name.rpartition("/")[2] for name in holding} == {"results.csv"}
    assert [one for one in searched.signatures if one.encode() in searched.printed] == []


def test_what_a_reference_url_carries_stands_where_the_files_cells_do_and_nowhere_else(searched):
    elsewhere = {
        name
        for name in searched.holding(REFERENCE)
        if name.rpartition("/")[2] not in OF_THE_FILE and "/artifacts/" not in name
    }

    assert searched.holding(REFERENCE)
    assert elsewhere == set()
    assert REFERENCE.encode() not in searched.printed


def test_keys_of_providers_and_alerts_stand_nowhere(searched):
    for key in KEYS.values():
        assert searched.holding(key) == set()
        assert key.encode() not in searched.printed


def test_the_private_key_stands_in_its_file_alone(searched):
    key = json.loads(searched.files["signing-key.json"])["private_key"]

    for line in key.splitlines()[1:-1]:
        assert searched.holding(line) == {"signing-key.json"}


def test_the_search_saw_logs_events_books_facts_and_problems(searched):
    names = set(searched.files)

    for part in (
        "ledger.db",
        ".parquet",
        "problem.json",
        "logs/",
        "dagster/",
        "contact-sheet.html",
    ):
        assert [name for name in names if part in name], part
