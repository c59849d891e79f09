"""References as people use them: whole processes, a real server, the local bucket and its links."""

import csv
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from assetgen_pipeline_tests.builders import a_csv
from assetgen_pipeline_tests.command_home import Home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
HEADER = ["scene_id", "prompt", "reference_urls", "ref_pack_id"]


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path / "home")
    yield made
    made.stop()


class Pictures(ThreadingHTTPServer):
    """Sends a picture of its own for each path, and says `unchanged` to whoever has it."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.seen = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append((self.path, self.headers.get("If-None-Match")))
        if self.path.startswith("/gone"):
            self.send_error(404)
            return
        tag = f'"{self.path}"'
        if self.headers.get("If-None-Match") == tag:
            self.send_response(304)
            self.end_headers()
            return
        out = io.BytesIO()
        Image.new("RGB", (64, 48 + len(self.path)), "red").save(out, "PNG")
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(out.tell()))
        self.end_headers()
        self.wfile.write(out.getvalue())

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def pictures():
    with Pictures() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def results_of(home, batch_id):
    owner = batch_id.partition(".")[0]
    with home.bucket() as store:
        text = store.read(f"outbox/{owner}/{batch_id}/results.csv").decode("utf-8-sig")
    return {row["scene_id"]: row for row in csv.DictReader(io.StringIO(text, newline=""))}


def run(home, tmp_path, owner, *rows, **settings):
    file = tmp_path / "file.csv"
    file.write_bytes(a_csv(*rows, header=HEADER))
    code, status, err = home.run("run", file, "--owner", owner, **settings)
    assert status["batch_id"], err
    return code, results_of(home, status["batch_id"])


def test_references_from_a_server_a_pack_and_links_of_ours(home, tmp_path, pictures):
    settings = {
        "ASSETGEN_REFERENCE_ALLOWED_NETWORKS": "127.0.0.0/8",
        # What is asked again because it was slow would be counted twice.
        "ASSETGEN_REFERENCE_TIMEOUT_S": "300",
    }
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "blue").save(out, "PNG")
    with home.bucket() as store:
        store.write("packs/warm/1.png", out.getvalue(), content_type="image/png")

    code, first = run(
        home, tmp_path, "studio",
        ["S1", "a kitchen", f"{pictures.url}/a {pictures.url}/bb", "warm"],
        ["S2", "a harbour", f"{pictures.url}/a {pictures.url}/gone", "nowhere"],
        **settings,
    )  # fmt: skip
    assert code == 0
    assert [row["references_used"] for row in first.values()] == ["3", "1"]
    assert "reference-unavailable" in first["S2"]["references_unfetched"]
    assert "nowhere" in first["S2"]["error"]
    assert sorted(path for path, _ in pictures.seen) == ["/a", "/bb", "/gone"]

    # The link of a result is a link of the local bucket's; another owner may not use it,
    # also where the server's network is allowed.
    link = first["S1"]["image_url_1"]
    other_name = link.replace("127.0.0.1", "localhost")
    code, second = run(
        home, tmp_path, "studio",
        ["S1", "a kitchen by night", f"{link} {pictures.url}/a", ""],
        ["S2", "a harbour by night", first["S1"]["image_uri_1"], ""],
    **settings)  # fmt: skip
    assert code == 0
    assert [row["references_used"] for row in second.values()] == ["2", "1"]
    assert pictures.seen[3:] == [("/a", '"/a"')]

    code, third = run(
        home, tmp_path, "rival",
        ["S1", "a kitchen", link, ""],
        ["S2", "a harbour", other_name, ""],
        ["S3", "a street", "", ""],
        **settings,
    )  # fmt: skip
    assert code == 4
    assert [row["error_code"] for row in third.values()] == [
        "reference-not-permitted", "reference-not-permitted", "",
    ]  # fmt: skip
    assert [row["status"] for row in third.values()] == ["failed", "failed", "delivered"]

    # Without the allowed network the link is still ours.
    code, fourth = run(home, tmp_path, "studio", ["S1", "a kitchen at noon", link, ""])
    assert (code, fourth["S1"]["references_used"]) == (0, "1")


def test_a_file_is_validated_offline_with_links_of_the_local_bucket(home, tmp_path):
    code, first = run(home, tmp_path, "studio", ["S1", "a kitchen", "", ""])
    file = tmp_path / "next.csv"
    file.write_bytes(a_csv(["S1", "a kitchen", first["S1"]["image_url_1"], ""], header=HEADER))

    code, document, _ = home.run("validate", file)

    assert code == 0, json.dumps(document)
