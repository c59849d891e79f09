"""The batch as it stands in the bucket."""

import pytest

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.domain.image_request import BatchRequests
from assetgen_pipeline.domain.orders import Reason
from assetgen_pipeline.domain.outcome import ImageStatus
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.batch_files import explained, read_artifact
from assetgen_pipeline.stages.batch_status import write_status
from assetgen_pipeline.stages.shard_report import GenerationReport, ShardReport
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, RUN_ID, row_references
from assetgen_pipeline_tests.stage_bench import Bench, some_requests

FOLDER = BatchFolder(BATCH_ID)
CANCELLED = {"code": "cancelled", "title": "Cancelled"}


def read_requests(bench):
    return read_artifact(BATCH_ID, "batch_requests", BatchRequests, store=bench.store)


def reasons(outcome):
    return [(image.code, image.detail) for image in outcome.images]


def test_an_artifact_is_read_back_as_it_was_kept():
    bench = Bench()
    batch = bench.open(*some_requests(3))

    assert read_requests(bench) == batch


def test_an_artifact_that_was_never_made_is_none():
    assert read_requests(Bench()) is None


def test_an_artifact_that_cannot_be_reached_is_not_taken_for_one_never_made():
    bench = Bench()
    bench.open()
    bench.store.fail_next("read")

    with pytest.raises(StorageUnavailable):
        read_requests(bench)


@pytest.mark.parametrize("damage", [b'{"batch_id": 1}', b"garbage", b""])
def test_a_damaged_artifact_is_named_in_the_log_and_counts_as_none(damage, caplog):
    bench = Bench()
    name = FOLDER.artifact("batch_requests")
    bench.store.write(name, damage, content_type="application/json")

    assert read_requests(bench) is None
    assert f"{name} is damaged" in caplog.text


def test_a_batch_whose_file_was_never_read_has_no_outcome():
    assert Bench().outcome() is None


def test_before_references_are_decided_no_image_was_attempted():
    bench = Bench()
    bench.open(*some_requests(2))

    outcome = bench.outcome()

    assert [image.status for image in outcome.images] == [ImageStatus.NOT_ATTEMPTED] * 2


def test_a_row_whose_references_are_refused_says_why():
    bench = Bench()
    batch = bench.open(*some_requests(2))
    blocked = row_references("S2", failure_code="reference-blocked", failure="a private address")
    bench.decide(batch, row_references("S1"), blocked)

    outcome = bench.outcome()

    assert reasons(outcome) == [("", ""), ("reference-blocked", "a private address")]


async def test_the_outcome_follows_the_ledger():
    bench = Bench()
    batch = bench.open(*some_requests(2))
    failed = ProviderError("no", kind=ErrorKind.INVALID_REQUEST)
    await bench.generate(batch, ScriptedProvider({"S2/1": [failed]}))

    outcome = bench.outcome()

    assert outcome.counts()["delivered"] == outcome.counts()["failed"] == 1


async def test_the_batchs_problem_is_the_reason_of_images_not_attempted_and_of_no_other():
    bench = Bench()
    batch = bench.open(*some_requests(3))
    failed = ProviderError("no", kind=ErrorKind.INVALID_REQUEST)
    await bench.shard_of(batch, ScriptedProvider({"S2/1": [failed]}), count=2)

    outcome = explained(bench.outcome(), CANCELLED)

    assert reasons(outcome) == [("", ""), ("provider-rejected", "no"), ("cancelled", "Cancelled")]


def test_without_a_problem_the_outcome_stays_as_it_is():
    bench = Bench()
    bench.open()
    outcome = bench.outcome()

    assert explained(outcome, None) is outcome


def test_the_reason_is_still_known_when_results_are_written_again_later():
    bench = Bench()
    bench.open()
    write_status(
        BATCH_ID, BatchState.CANCELLED, store=bench.store, clock=bench.clock, problem=CANCELLED
    )

    assert reasons(bench.outcome()) == [("cancelled", "Cancelled")]


def a_report(**shard):
    figures = {"images": 2, "generated": 0, "reused": 0, "already_delivered": 0}
    shard = ShardReport(**figures, failed=1, not_attempted=1, **shard)
    return GenerationReport(run_id=RUN_ID, shards=(shard,))


async def test_what_a_stopped_shard_left_says_what_stopped_it():
    bench = Bench()
    batch = bench.open(*some_requests(3))
    no_key = ProviderError("the key is refused", kind=ErrorKind.AUTH)
    report = await bench.generate(batch, ScriptedProvider({"S2/1": [no_key]}), concurrency=1)
    bench.keep(batch, "generated_images", GenerationReport(run_id=RUN_ID, shards=(report,)))

    outcome = bench.outcome()

    assert [image.status for image in outcome.images] == [
        ImageStatus.DELIVERED,
        ImageStatus.FAILED,
        ImageStatus.NOT_ATTEMPTED,
    ]
    assert reasons(outcome)[2] == ("provider-auth", "the key is refused")


async def test_an_image_whose_further_attempt_the_budget_refused_says_so():
    bench = Bench(limit="0.002")
    batch = bench.open()
    lost = ProviderError("no answer", kind=ErrorKind.UNKNOWN_OUTCOME)
    report = await bench.generate(batch, ScriptedProvider(default=[lost]))
    bench.keep(batch, "generated_images", GenerationReport(run_id=RUN_ID, shards=(report,)))

    [image] = bench.outcome().images

    assert (image.status, image.code, image.attempts) == (ImageStatus.FAILED, "budget-exceeded", 1)
    assert "0.00" in image.detail


@pytest.mark.parametrize("delivered", [True, False])
async def test_what_a_later_run_did_counts_more_than_an_earlier_refusal(delivered):
    bench = Bench()
    batch = bench.open()
    failure = ProviderError("refused", kind=ErrorKind.INVALID_REQUEST)
    provider = ScriptedProvider() if delivered else ScriptedProvider(default=[failure])
    await bench.generate(batch, provider, run_id="run-2")
    refusal = Reason(code="budget-exceeded", detail="needs more")
    bench.keep(batch, "generated_images", a_report(refused={"S1/1": refusal}))

    [image] = bench.outcome().images

    assert image.code == ("" if delivered else "provider-rejected")


def test_the_problem_of_a_batch_explains_before_what_stopped_an_earlier_run():
    bench = Bench()
    batch = bench.open(*some_requests(1))
    bench.decide(batch)
    stopped = Reason(code="provider-auth", detail="the key is refused")
    bench.keep(batch, "generated_images", a_report(stopped=stopped))
    write_status(
        BATCH_ID, BatchState.CANCELLED, store=bench.store, clock=bench.clock, problem=CANCELLED
    )

    assert reasons(bench.outcome()) == [("cancelled", "Cancelled")]
