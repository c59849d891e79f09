"""Sensors: drops become runs, and what ends badly is closed."""

from datetime import timedelta

import dagster as dg

from assetgen_pipeline.defs.sensors import (
    cancelled_run_sensor,
    dead_run_sensor,
    failed_run_sensor,
    inbox_sensor,
)
from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline.domain.bucket_layout import BatchFolder, batch_id_for
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, a_csv
from assetgen_pipeline_tests.fake_deployment import add_run

CSV = a_csv(["S1", "a kitchen"], ["S2", "a harbour"])


def tick(deployment, cursor=None):
    """One look at the inbox: what the sensor asks for."""
    resources = {"services": deployment.services, "deployment": deployment.deployment}
    with dg.build_sensor_context(
        instance=deployment.instance, cursor=cursor, resources=resources
    ) as context:
        return inbox_sensor(context)


def names(result):
    return [request.tags["assetgen/inbox_object"] for request in result.run_requests]


def said(result):
    return result.skip_reason.skip_message if result.skip_reason else ""


def claim(deployment, result):
    """Do what the runs asked for do: take their files out of the inbox."""
    for request in result.run_requests:
        deployment.store.delete(request.tags["assetgen/inbox_object"])


def test_a_drop_is_asked_for_with_the_tags_its_run_needs(deployment):
    info = deployment.drop("inbox/studio/Spring look.csv")

    result = tick(deployment)

    batch_id = batch_id_for(
        owner="studio",
        stem="Spring look",
        bucket=BUCKET,
        name=info.name,
        generation=info.generation,
    )
    [request] = result.run_requests
    assert request.partition_key == batch_id
    assert request.run_key == f"{info.name}#{info.generation}#1"
    assert request.tags == {
        "assetgen/owner": "studio",
        "assetgen/batch": batch_id,
        "assetgen/inbox_object": info.name,
        "assetgen/inbox_generation": str(info.generation),
    }
    [partitions] = result.dynamic_partitions_requests
    assert partitions.partition_keys == [batch_id]


def test_an_empty_inbox_is_skipped_with_a_reason(deployment):
    result = tick(deployment)

    assert result.run_requests == []
    assert said(result) == "nothing new"


def test_the_inbox_is_listed_once_and_nothing_else_is_touched(deployment):
    deployment.drop("inbox/studio/a.csv")
    deployment.store.calls.clear()

    tick(deployment)

    assert deployment.store.calls == [("list", "inbox/")]


def test_a_backlog_of_a_thousand_files_is_asked_for_once_each_over_ticks(deployment):
    dropped = {f"inbox/owner{n % 7}/file{n:04}.csv" for n in range(1000)}
    for name in sorted(dropped):
        deployment.drop(name)
    asked, cursor, sizes = [], None, []

    while not sizes or sizes[-1]:
        result = tick(deployment, cursor)
        claim(deployment, result)
        asked += names(result)
        sizes.append(len(result.run_requests))
        cursor = result.cursor

    assert sizes == [20] * 50 + [0]
    assert len(asked) == 1000
    assert set(asked) == dropped
    assert len(cursor) < 1_000


def test_owners_take_turns_within_a_tick(deployment):
    deployment.choose(max_runs_per_tick=4)
    for n in range(50):
        deployment.drop(f"inbox/ada/{n:02}.csv")
    deployment.drop("inbox/ben/late.csv")

    result = tick(deployment)

    assert "inbox/ben/late.csv" in names(result)


def test_a_drop_that_waits_for_its_run_is_not_asked_for_again(deployment):
    deployment.drop("inbox/studio/a.csv")
    first = tick(deployment)

    second = tick(deployment, first.cursor)

    assert second.run_requests == []


def test_a_request_that_got_lost_is_made_again_with_the_same_key(deployment):
    deployment.drop("inbox/studio/a.csv")
    first = tick(deployment)
    deployment.clock.advance(timedelta(minutes=2))

    second = tick(deployment, first.cursor)

    assert [r.run_key for r in second.run_requests] == [r.run_key for r in first.run_requests]


def test_a_live_run_is_waited_for_however_long_it_takes(deployment):
    deployment.drop("inbox/studio/a.csv")
    first = tick(deployment)
    [request] = first.run_requests
    add_run(
        deployment.instance,
        status=dg.DagsterRunStatus.STARTED,
        dagster__run_key=request.run_key,
        assetgen__worker=worker_identity(),
    )
    deployment.clock.advance(timedelta(hours=2))

    assert tick(deployment, first.cursor).run_requests == []


def test_a_drop_whose_runs_die_unclaimed_is_asked_for_three_times_and_then_reported_once(
    deployment,
):
    deployment.drop("inbox/studio/a.csv")
    cursor, keys = None, []
    for _attempt in range(3):
        result = tick(deployment, cursor)
        [request] = result.run_requests
        keys.append(request.run_key)
        add_run(
            deployment.instance,
            status=dg.DagsterRunStatus.FAILURE,
            dagster__run_key=request.run_key,
        )
        cursor = result.cursor

    gives_up = tick(deployment, cursor)
    after = tick(deployment, gives_up.cursor)

    assert [key.rpartition("#")[2] for key in keys] == ["1", "2", "3"]
    assert gives_up.run_requests == []
    assert said(gives_up) == "gave up on inbox/studio/a.csv after 3 runs"
    assert said(after) == "nothing new"


def test_a_file_dropped_again_under_its_name_is_another_batch(deployment):
    deployment.drop("inbox/studio/a.csv")
    first = tick(deployment)
    claim(deployment, first)
    deployment.drop("inbox/studio/a.csv")

    second = tick(deployment, first.cursor)

    assert names(second) == ["inbox/studio/a.csv"]
    assert second.run_requests[0].partition_key != first.run_requests[0].partition_key


def test_stray_files_are_left_alone_and_reported_once(deployment):
    strays = [
        "inbox/readme.csv",
        "inbox/studio/notes.txt",
        "inbox/studio/deep/er/x.csv",
        "inbox/BAD/x.csv",
    ]
    for name in strays:
        deployment.drop(name)

    first = tick(deployment)
    second = tick(deployment, first.cursor)

    assert first.run_requests == []
    assert all(f"left alone {name}: " in said(first) for name in strays)
    assert said(second) == "nothing new"
    assert {found.name for found in deployment.store.list("inbox/")} == set(strays)


def test_a_deployment_with_owners_of_its_own_takes_only_their_folders(deployment):
    deployment.choose(inbox_owners=frozenset({"ben"}))
    deployment.drop("inbox/ada/a.csv")
    deployment.drop("inbox/ben/b.csv")

    result = tick(deployment)

    assert names(result) == ["inbox/ben/b.csv"]
    assert "ada" not in said(tick(deployment, result.cursor))


def test_the_run_that_a_tick_asks_for_claims_the_file_and_honours_the_dry_run_folder(deployment):
    deployment.drop("inbox/studio/dry-run/a.csv", CSV)
    [request] = tick(deployment).run_requests

    result = deployment.run(batch_id=request.partition_key, tags=request.tags)

    assert result.success
    assert deployment.status(request.partition_key).state is BatchState.PRICED
    assert list(deployment.store.list("inbox/")) == []


def a_failed_run(deployment):
    """A run that failed while it held money: its provider has no adapter."""

    def no_adapter(_provider, _model):
        raise ProviderError("no adapter", kind=ErrorKind.FATAL_CONFIG)

    deployment.choose(open_provider=no_adapter)
    deployment.upload(CSV)
    result = deployment.run()
    assert not result.success
    assert deployment.ledger.open_holds()
    return result


def closing_context(sensor, result, deployment, event):
    return dg.build_run_status_sensor_context(
        sensor_name=sensor.name,
        dagster_instance=deployment.instance,
        dagster_run=deployment.instance.get_run_by_id(result.run_id),
        dagster_event=event,
        resources={"services": deployment.services},
    )


def test_a_failed_run_is_closed_with_results_and_without_its_hold(deployment):
    result = a_failed_run(deployment)
    context = closing_context(
        failed_run_sensor, result, deployment, result.get_run_failure_event()
    ).for_run_failure()

    failed_run_sensor(context)

    status = deployment.status()
    assert status.state is BatchState.FAILED
    assert status.problem["type"] == "urn:assetgen:problem:internal"
    assert status.images.not_attempted == 2
    assert deployment.ledger.open_holds() == []
    folder = BatchFolder(BATCH_ID)
    assert all(deployment.has(name) for name in (folder.results, folder.failed, folder.problem))


def test_a_cancelled_run_is_closed_as_cancelled(deployment):
    result = a_failed_run(deployment)
    event = result.all_events[-1]

    cancelled_run_sensor(closing_context(cancelled_run_sensor, result, deployment, event))

    assert deployment.status().state is BatchState.CANCELLED
    assert deployment.ledger.open_holds() == []


def test_a_failed_run_of_no_batch_is_left_alone(deployment):
    @dg.op
    def fails():
        raise RuntimeError

    @dg.job
    def maintenance():
        fails()

    result = maintenance.execute_in_process(instance=deployment.instance, raise_on_error=False)
    context = closing_context(
        failed_run_sensor, result, deployment, result.get_run_failure_event()
    ).for_run_failure()

    failed_run_sensor(context)

    assert list(deployment.store.list("")) == []


def test_the_dead_run_sensor_ends_a_run_whose_worker_is_gone_and_says_so(deployment):
    host, boot, pid, _started = worker_identity().split("/")
    dead = add_run(
        deployment.instance,
        status=dg.DagsterRunStatus.STARTED,
        assetgen__worker=f"{host}/{boot}/{pid}/1",
    )

    def look():
        with dg.build_sensor_context(
            instance=deployment.instance, resources={"services": deployment.services}
        ) as context:
            return dead_run_sensor(context).skip_message

    assert look() == f"ended {dead.run_id}"
    assert look() == "no dead run"


def test_a_backlog_that_no_run_has_claimed_costs_a_tick_few_queries(deployment, monkeypatch):
    deployment.choose(max_runs_per_tick=1000)
    for n in range(1000):
        deployment.drop(f"inbox/owner{n % 7}/file{n:04}.csv")
    first = tick(deployment)
    for request in first.run_requests[:3]:
        add_run(
            deployment.instance,
            status=dg.DagsterRunStatus.FAILURE,
            dagster__run_key=request.run_key,
        )
    queries, get_runs = [], deployment.instance.get_runs

    def counted(**options):
        queries.append(options)
        return get_runs(**options)

    monkeypatch.setattr(deployment.instance, "get_runs", counted)

    second = tick(deployment, first.cursor)

    assert len(first.run_requests) == 1000
    assert sorted(names(second)) == sorted(names(first)[:3])
    assert len(queries) <= 5
