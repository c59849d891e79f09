"""The refresh job and its sensor: what is asked for, what it leaves behind, what it never does."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from assetgen_pipeline.defs.build import build_definitions
from assetgen_pipeline.defs.expiry_sensor import expiring_urls_sensor
from assetgen_pipeline.defs.result_assets import LINKS_ALIVE
from assetgen_pipeline.defs.url_refresh import REFRESH_OP, RefreshConfig
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.delivery import LinkLife, UrlPolicy
from assetgen_pipeline.settings import Settings
from assetgen_pipeline.stages.expiry_index import index_links
from assetgen_pipeline_tests.builders import BATCH_ID, NOW, a_csv
from assetgen_pipeline_tests.fake_deployment import FakeDeployment, failures
from assetgen_pipeline_tests.sensor_bench import ask

FOLDER = BatchFolder(BATCH_ID)
ONE_ROW = a_csv(["S1", "a kitchen"])
DAY = timedelta(days=1)


@pytest.fixture
def published(deployment):
    deployment.upload(ONE_ROW)
    assert deployment.run().success
    return deployment


def tick(deployment, cursor=None):
    return ask(expiring_urls_sensor, deployment, cursor)


def run_refresh(deployment, *batch_ids, cause="expiring", run_config=None):
    definitions = build_definitions(Settings(home=Path("/unused")), resources=deployment.resources)
    config = RefreshConfig(batches=list(batch_ids), cause=cause)
    return definitions.resolve_job_def("refresh_urls").execute_in_process(
        instance=deployment.instance,
        run_config=run_config or dg.RunConfig(ops={REFRESH_OP: config}),
        raise_on_error=False,
    )


def materializations(deployment, batch_id=BATCH_ID):
    records = deployment.instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey("signed_urls"), asset_partitions=[batch_id]), limit=10
    ).records
    return [record.asset_materialization for record in records]


def test_a_tick_with_nothing_due_signs_and_asks_for_nothing(published):
    before = len(published.services.signer.signed)
    published.clock.advance(6 * DAY)

    result = tick(published)

    assert result.run_requests in (None, [])
    assert "no links end soon" in result.skip_reason.skip_message
    assert len(published.services.signer.signed) == before


def test_a_tick_asks_for_one_run_for_what_is_due_and_that_run_refreshes_it(published):
    published.clock.advance(6.5 * DAY)
    before = len(published.services.signer.signed)

    [request] = tick(published).run_requests
    signed_by_the_tick = len(published.services.signer.signed) - before
    result = run_refresh(published, run_config=request.run_config)

    assert signed_by_the_tick == 0
    assert result.success
    assert "assetgen/owner" not in {**request.tags, **result.dagster_run.tags}
    newest, _first = materializations(published)
    assert newest.metadata["cause"].value == "expiring"
    assert newest.metadata["urls_expire_at"].value == (NOW + 13.5 * DAY).isoformat()
    assert newest.metadata["old_expires_at"].value == (NOW + 7 * DAY).isoformat()
    assert tick(published).run_requests in (None, [])


def test_what_was_asked_for_is_not_asked_for_at_the_next_tick_but_later_again(published):
    published.clock.advance(6.5 * DAY)

    first = tick(published)
    second = tick(published, first.cursor)
    published.clock.advance(timedelta(minutes=5))
    third = tick(published, second.cursor)

    assert len(first.run_requests) == 1
    assert second.run_requests in (None, [])
    assert len(third.run_requests) == 1


@pytest.mark.parametrize(
    ("status", "asked"),
    [("NOT_STARTED", 0), ("STARTED", 0), ("SUCCESS", 1), ("FAILURE", 1)],
)
def test_what_a_refresh_works_on_is_not_asked_for_again_however_long_it_takes(
    published, status, asked
):
    published.clock.advance(6.5 * DAY)
    first = tick(published)
    run = dg.DagsterRun(job_name="refresh_urls", status=dg.DagsterRunStatus(status))
    published.instance.add_run(run)
    published.clock.advance(timedelta(hours=1))

    assert len(tick(published, first.cursor).run_requests or []) == asked


def test_ten_thousand_links_due_are_one_request_and_no_signature(deployment):
    life = LinkLife(signed_at=NOW - 7 * DAY, expires_at=NOW, published_at=NOW - 7 * DAY)
    for number in range(500):
        index_links(f"studio.b{number}.{number:08x}", life, store=deployment.store)
    deployment.store.calls.clear()

    [request] = tick(deployment).run_requests

    assert len(request.run_config["ops"][REFRESH_OP]["config"]["batches"]) == 200
    assert deployment.services.signer.signed == []
    assert deployment.store.calls == [("list", "index/expiry/")]


def test_no_signed_url_reaches_the_events_of_a_refresh(published):
    published.clock.advance(6.5 * DAY)

    result = run_refresh(published, BATCH_ID)

    assert "X-Goog-Signature" in published.store.read(FOLDER.results).decode()
    assert all("X-Goog-Signature" not in str(event) for event in result.all_events)


def test_a_refresh_that_fails_for_one_batch_fails_the_run_after_the_others(published):
    other = "studio.other.89abcdef"
    published.upload(ONE_ROW, batch_id=other)
    published.run(batch_id=other)
    artifact = BatchFolder(other).artifact("batch_requests")
    published.clock.advance(6.5 * DAY)
    published.services.signer.fail_next()

    result = run_refresh(published, other, BATCH_ID)

    assert not result.success
    assert (
        "links of 1 batches were not refreshed: storage-unavailable"
        in failures(result)["require_all"]
    )
    assert sorted(len(materializations(published, b)) for b in (BATCH_ID, other)) == [1, 2]
    assert published.has(artifact)


def test_a_batch_whose_links_lapsed_is_recorded_without_an_end(published):
    published.services = replace(published.services, urls=UrlPolicy(refresh_retention=DAY))
    published.clock.advance(8 * DAY)

    assert run_refresh(published, BATCH_ID).success

    newest = materializations(published)[0]
    assert newest.metadata["cause"].value == "lapsed"
    assert newest.metadata["urls_expire_at"].value == ""


def test_links_that_pass_their_end_while_the_batch_runs_are_signed_again_before_it_ends(instance):
    deployment = FakeDeployment(instance)
    deployment.upload(ONE_ROW)
    settle = deployment.ledger.settle

    def slow_settle(batch_id):
        deployment.clock.advance(8 * DAY)
        return settle(batch_id)

    deployment.ledger.settle = slow_settle

    assert deployment.run().success

    end = (deployment.clock.now() + 7 * DAY).isoformat()
    assert end in deployment.store.read(FOLDER.results).decode()


def test_signed_urls_goes_stale_when_every_link_has_ended():
    repository = build_definitions(Settings(home=Path("/unused"))).get_repository_def()

    spec = repository.asset_graph.get(dg.AssetKey("signed_urls"))

    assert spec.freshness_policy == LINKS_ALIVE
    assert LINKS_ALIVE.fail_window.to_timedelta() == 7 * DAY
