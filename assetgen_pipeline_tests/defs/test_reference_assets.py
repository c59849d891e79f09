"""References through the whole graph: what is blocked is never paid for, and steps share what they know."""

import json
import socket
import threading
from datetime import timedelta

import pytest

from assetgen_pipeline.adapters.http_reference_fetcher import HttpReferenceFetcher
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import ReferenceUnfetched
from assetgen_pipeline.domain.references import ReferenceDecision
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_files import read_artifact
from assetgen_pipeline.stages.fetch_references import FetchPolicy
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline.testing.references import ScriptedReferenceFetcher
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, a_csv
from assetgen_pipeline_tests.fake_deployment import FakeDeployment
from assetgen_pipeline_tests.hostile_server import BLANK_TLS, LIST_B

FOLDER = BatchFolder(BATCH_ID)
HEADER = ["scene_id", "prompt", "reference_urls"]
PUBLIC = "https://93.184.216.34"


@pytest.fixture
def listener():
    """A port of loopback that counts who connects."""
    accepted = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        over = threading.Event()

        def accept():
            while not over.is_set():
                try:
                    peer, _ = server.accept()
                except TimeoutError:
                    continue
                accepted.append(peer)
                peer.close()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1], accepted
        finally:
            over.set()
            thread.join()


async def loopback(host, port):
    return ["127.0.0.1"]


def guarded():
    return HttpReferenceFetcher(resolver=loopback, ssl_context=BLANK_TLS)


def a_file(*rows):
    return a_csv(*([f"S{n}", f"scene {n}", *row] for n, row in enumerate(rows)), header=HEADER)


def rows_of(deployment):
    manifest = json.loads(deployment.store.read(FOLDER.manifest))
    return {row["scene_id"]: row for row in manifest["rows"]}


def decision_of(deployment):
    return read_artifact(BATCH_ID, "reference_images", ReferenceDecision, store=deployment.store)


@pytest.mark.parametrize("scheme", ["http:", "https:"])
def test_list_b_is_refused_by_the_file_and_nobody_is_called_or_connected_to(
    instance, listener, scheme
):
    port, accepted = listener
    deployment = FakeDeployment(instance, open_fetcher=guarded)
    urls = [url.replace("http:", scheme, 1) for url in LIST_B if url.strip()]
    with_port = [url.replace("127.0.0.1/", f"127.0.0.1:{port}/") for url in urls]
    deployment.upload(a_file(*([json.dumps([url])] for url in (*urls, *with_port))))

    result = deployment.run()

    assert not result.success
    assert deployment.status().state is BatchState.REJECTED
    problem = json.loads(deployment.store.read(FOLDER.problem))
    assert {entry["line"] for entry in problem["errors"]} >= set(range(2, 2 + len(urls)))
    assert {entry["code"] for entry in problem["errors"]} <= {
        "reference-url-invalid", "reference-blocked", "reference-not-permitted", "csv-malformed",
    }  # fmt: skip
    assert (deployment.asked(), accepted) == ([], [])
    assert deployment.spent_micros() == (0, 0)


def test_a_name_that_leads_inside_fails_its_row_before_anything_is_paid(instance, listener):
    _, accepted = listener
    deployment = FakeDeployment(instance, open_fetcher=guarded)
    deployment.upload(
        a_file(
            ["https://rebind.example/a.png"],
            [f"https://storage.googleapis.com/{BUCKET}/images/rival/ab/a.png"],
            [
                "https://www.googleapis.com/storage/v1/b/"
                + BUCKET
                + "/o/config%2Fpause.json?alt=media"
            ],
        )
    )

    result = deployment.run()

    assert result.success
    rows = rows_of(deployment)
    assert [row["error_code"] for row in rows.values()] == [
        "reference-blocked", "reference-not-permitted", "reference-not-permitted",
    ]  # fmt: skip
    assert {row["status"] for row in rows.values()} == {"failed"}
    assert (deployment.asked(), accepted) == ([], [])
    assert deployment.spent_micros() == (0, 0)


def test_a_blocked_row_leaves_the_others_alone(instance):
    deployment = FakeDeployment(
        instance,
        references={f"{PUBLIC}/a.png": b"image"},
    )
    deployment.upload(
        a_file(
            [f"{PUBLIC}/a.png"],
            [f"https://{BUCKET}.storage.googleapis.com/images/rival/ab/a.png {PUBLIC}/a.png"],
            [f"{PUBLIC}/gone.png"],
        )
    )

    deployment.run()

    rows = rows_of(deployment)
    assert [row["status"] for row in rows.values()] == ["delivered", "failed", "delivered"]
    assert sorted(deployment.asked()) == ["S0/1", "S2/1"]
    assert "reference-unavailable" in rows["S2"]["references_unfetched"][0]


def test_a_host_that_one_step_gave_up_is_not_asked_by_the_next(instance):
    down = ReferenceUnfetched("down", retryable=True)
    urls = [f"https://dead.example/{n}.png" for n in range(12)]
    deployment = FakeDeployment(instance, references=dict.fromkeys(urls, down), reference_chunk=4)
    deployment.upload(a_file(*([url] for url in urls)))

    assert deployment.run().success

    # The fourth URL of the first step may find that the other three have given the host up.
    asked = deployment.fetcher.urls
    assert 3 * 3 <= len(asked) <= 4 * 3
    assert set(asked) <= set(urls[:4])
    decision = decision_of(deployment)
    assert decision.requests == len(asked)
    assert "failed too often" in decision.rows[-1].unfetched[0]


def test_the_batchs_time_is_shared_by_its_steps_and_waiting_between_them_is_free(instance):
    class Slow(ScriptedReferenceFetcher):
        async def fetch(self, url, *, known=None):
            deployment.clock.advance(timedelta(seconds=60))
            return await super().fetch(url, known=known)

    urls = [f"{PUBLIC}/{n}.png" for n in range(6)]
    script = {url: url.encode() for url in urls}
    deployment = FakeDeployment(
        instance,
        open_fetcher=lambda: Slow(script),
        reference_chunk=1,
        fetch_policy=FetchPolicy(batch_deadline_s=200),
    )
    deployment.upload(a_file(*([url] for url in urls)))

    deployment.run()

    used = [len(row.used) for row in decision_of(deployment).rows]
    # Each takes 60 s of 200: the fourth is the last that may begin.
    assert sorted(used, reverse=True) == [1, 1, 1, 1, 0, 0]


def test_a_run_after_one_that_broke_off_has_all_of_its_time_and_asks_what_changed(instance):
    urls = [f"{PUBLIC}/{n}.png" for n in range(3)]
    deployment = FakeDeployment(
        instance,
        references=dict.fromkeys(urls, b"image"),
        reference_chunk=1,
        fetch_policy=FetchPolicy(batch_deadline_s=1800),
    )
    deployment.upload(a_file(*([url] for url in urls)))
    deployment.store.fail_next("create")
    assert not deployment.run().success
    deployment.clock.advance(timedelta(hours=5))

    assert deployment.run().success

    assert [len(row.used) for row in decision_of(deployment).rows] == [1, 1, 1]


def test_what_steps_hand_on_names_no_url_and_holds_no_bytes(instance):
    secret = f"{PUBLIC}/a.png?token=CANARY"
    deployment = FakeDeployment(
        instance, references={secret: b"IMAGEBYTES"}, provider=ScriptedProvider()
    )
    deployment.upload(a_file([secret]))

    result = deployment.run()

    holders = {
        name.removeprefix(f"artifacts/{BATCH_ID}/").removeprefix(f"{result.run_id}/")
        for name in (found.name for found in deployment.store.list(""))
        if b"CANARY" in deployment.store.read(name)
    }
    # The file itself, what was read of it, the plan, and the results, which repeat the file.
    assert holders == {
        FOLDER.request, FOLDER.results, FOLDER.manifest,
        "batch_requests.json", "reference_images.plan_references[0].json",
    }  # fmt: skip
    assert all("CANARY" not in str(event) for event in result.all_events)
    assert not any(
        b"IMAGEBYTES" in deployment.store.read(found.name)
        for found in deployment.store.list("artifacts/")
    )
