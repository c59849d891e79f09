"""The inbox sensor: every drop becomes a run, once, in its turn."""

from datetime import timedelta

import dagster as dg

from assetgen_pipeline.defs.sensors import inbox_sensor
from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline.domain.batch_file import CsvLimits
from assetgen_pipeline.domain.bucket_layout import batch_id_for
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline_tests.builders import BUCKET, a_csv
from assetgen_pipeline_tests.fake_deployment import add_run
from assetgen_pipeline_tests.sensor_bench import ask, said

CSV = a_csv(["S1", "a kitchen"], ["S2", "a harbour"])


def tick(deployment, cursor=None):
    """One look at the inbox: what the sensor asks for."""
    return ask(inbox_sensor, deployment, cursor)


def names(result):
    return [request.tags["assetgen/inbox_object"] for request in result.run_requests]


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


def test_a_drop_that_is_too_large_is_rejected_without_a_run_and_stays(deployment):
    deployment.choose(csv_limits=CsvLimits(max_bytes=10))
    info = deployment.drop("inbox/studio/huge.csv", CSV)
    batch_id = batch_id_for(
        owner="studio", stem="huge", bucket=BUCKET, name=info.name, generation=info.generation
    )

    first = tick(deployment)
    second = tick(deployment, first.cursor)

    status = read_status(batch_id, store=deployment.store)
    assert (status.state, status.problem["code"]) == (BatchState.REJECTED, "csv-too-large")
    assert (first.run_requests, second.run_requests) == ([], [])
    assert "too large" in said(first)
    assert said(second) == "nothing new"
    assert deployment.store.stat(info.name) == info
    assert ("read", info.name) not in deployment.store.calls


def test_an_empty_inbox_is_skipped_with_a_reason(deployment):
    result = tick(deployment)

    assert result.run_requests == []
    assert said(result) == "nothing new"


def test_the_inbox_is_listed_once_and_nothing_else_is_touched(deployment):
    deployment.drop("inbox/studio/a.csv")
    deployment.store.calls.clear()

    tick(deployment)

    assert deployment.store.calls == [("stat", "config/pause.json"), ("list", "inbox/")]


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
