"""The real stack: bucket, web server, daemon, sensors; a drop goes in, results come out."""

import csv
import io
import json
import urllib.request

import pytest

from assetgen_pipeline.cli.files import drop_file
from assetgen_pipeline.cli.stack import running_stack
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.status import BatchState, is_terminal
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.ledger import open_ledger
from assetgen_pipeline_tests.processes import processes_of, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

DROPS = 20


def graphql(url, query):
    request = urllib.request.Request(
        f"{url}/graphql",
        data=json.dumps({"query": query}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)["data"]


def wait_for_end(batch_ids, *, store, stack):
    ended = {}

    def all_ended():
        stack.check()
        for batch_id in set(batch_ids) - set(ended):
            if store.stat(BatchFolder(batch_id).status) is None:
                continue
            status = read_status(batch_id, store=store)
            if is_terminal(status.state):
                ended[batch_id] = status
        return len(ended) == len(batch_ids)

    until(all_ended, every_s=0.5)
    return ended


def ended_runs(stack):
    """All runs, once none is under way: a batch ends a moment before its run does."""
    query = (
        '{runsOrError(filter: {pipelineName: "generate_batch"})'
        " {... on Runs {results {status tags {key value}}}}}"
    )

    def all_ended():
        runs = graphql(stack.url, query)["runsOrError"]["results"]
        under_way = {run["status"] for run in runs} & {"QUEUED", "STARTING", "STARTED"}
        return None if under_way else runs

    return until(all_ended, every_s=0.5)


def test_drops_become_results_and_a_backlog_of_20_loses_and_doubles_none(tmp_path, monkeypatch):
    monkeypatch.setenv("ASSETGEN_HOME", str(tmp_path / "home"))
    settings = load_settings()
    with (
        running_stack(settings) as stack,
        open_object_store(settings) as store,
        open_ledger(settings) as ledger,
    ):
        batch_ids = []
        for number in range(DROPS):
            file = tmp_path / f"batch-{number}.csv"
            file.write_text(f"scene_id,prompt\nS1,scene {number}\n", encoding="utf-8")
            # Two owners: batches of one go one at a time.
            owner = "ada" if number % 2 else "ben"
            batch_ids.append(drop_file(file, owner=owner, dry_run=False, store=store))
        stray = "inbox/ada/notes.txt"
        store.write(stray, b"not a batch", content_type="text/plain")

        stack.ready()
        ended = wait_for_end(batch_ids, store=store, stack=stack)

        assert {status.state for status in ended.values()} == {BatchState.COMPLETED}
        assert [o.name for o in store.list("inbox/")] == [stray]
        assert len(list(store.list("images/"))) == DROPS
        attempts = [a for batch_id in batch_ids for a in ledger.attempts(batch_id)]
        assert len(attempts) == DROPS
        assert [check.name for check in ledger.verify() if check.violations] == []
        results = store.read(BatchFolder(batch_ids[0]).results).decode()
        row = next(csv.DictReader(io.StringIO(results)))
        with urllib.request.urlopen(row["image_url_1"], timeout=60) as image:
            assert image.read(8) == b"\x89PNG\r\n\x1a\n"
        nodes = graphql(stack.url, "{assetNodes{assetKey{path}}}")["assetNodes"]
        keys = {node["assetKey"]["path"][-1] for node in nodes}
        assert {"inbox_csv", "batch_requests", "generated_images", "batch_costs"} <= keys
        runs = ended_runs(stack)
        partitions = [
            t["value"] for r in runs for t in r["tags"] if t["key"] == "dagster/partition"
        ]
        assert sorted(partitions) == sorted(batch_ids)
        assert {run["status"] for run in runs} == {"SUCCESS"}
    for name in ("dagster-webserver", "dagster-daemon"):
        assert (settings.home / "logs" / f"{name}.log").exists()
    # A killed process needs a moment to go; one that stays fails the test.
    until(lambda: not [c for c in processes_of(settings.home).values() if "dagster" in c])
