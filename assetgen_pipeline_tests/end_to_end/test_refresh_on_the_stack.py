"""Links that live for a minute, on the real stack: the sensor finds them, the daemon renews them."""

import csv
import io
import json
import urllib.request

import pytest

from assetgen_pipeline.cli.files import drop_file
from assetgen_pipeline.cli.stack import running_stack
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline_tests.end_to_end.test_stack import graphql, wait_for_end
from assetgen_pipeline_tests.processes import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

RUNS = (
    '{runsOrError(filter: {pipelineName: "refresh_urls"})'
    " {... on Runs {results {status tags {key value}}}}}"
)
EVENTS = (
    '{assetOrError(assetKey: {path: ["signed_urls"]})'
    " {... on Asset {assetMaterializations {partition runOrError {... on Run {pipelineName}}}}}}"
)


def test_published_links_are_renewed_by_the_daemon_before_they_end(tmp_path, monkeypatch):
    monkeypatch.setenv("ASSETGEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASSETGEN_URL_TTL", "120s")
    monkeypatch.setenv("ASSETGEN_URL_REFRESH_MARGIN", "60s")
    settings = load_settings()
    file = tmp_path / "short.csv"
    file.write_text("scene_id,prompt\nS1,a kitchen\n", encoding="utf-8")
    with running_stack(settings) as stack, open_object_store(settings) as store:
        stack.ready()
        batch_id = drop_file(file, owner="ada", dry_run=False, store=store)
        folder = BatchFolder(batch_id)
        ended = wait_for_end([batch_id], store=store, stack=stack)
        assert ended[batch_id].state is BatchState.COMPLETED

        def renewed():
            stack.check()
            links = json.loads(store.read(folder.manifest))["links"]
            return [one for one in links["refreshes"] if one["cause"] == "expiring"]

        first = until(renewed, every_s=0.5)[0]

        def renewed_row():
            # The results are written after the manifest.
            row = next(csv.DictReader(io.StringIO(store.read(folder.results).decode())))
            return row if row["urls_expire_at"] >= first["new_expires_at"] else None

        row = until(renewed_row)
        assert first["new_expires_at"] > first["old_expires_at"]
        with urllib.request.urlopen(row["image_url_1"], timeout=60) as image:
            assert image.read(8) == b"\x89PNG\r\n\x1a\n"

        def succeeded():
            stack.check()
            runs = graphql(stack.url, RUNS)["runsOrError"]["results"]
            return [run for run in runs if run["status"] == "SUCCESS"]

        runs = until(succeeded, every_s=0.5)
        assert "assetgen/owner" not in {tag["key"] for run in runs for tag in run["tags"]}
        events = graphql(stack.url, EVENTS)["assetOrError"]["assetMaterializations"]
        renewals = {
            e["partition"] for e in events if e["runOrError"]["pipelineName"] == "refresh_urls"
        }
        assert renewals == {batch_id}
