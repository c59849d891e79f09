"""A batch that its provider stops: every row says why, and a retry goes on from there."""

import pytest

from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import a_csv
from assetgen_pipeline_tests.fake_deployment import FakeDeployment
from assetgen_pipeline_tests.read_results import read_results

ROWS = a_csv(*([f"S{n}", f"scene {n}"] for n in range(6)))


def stopping(instance, kind):
    error = ProviderError("the account is closed to us", kind=kind)
    return FakeDeployment(
        instance,
        provider=ScriptedProvider({"S1/1": [error]}),
        generation_concurrency=1,
        shard_rows=2,
    )


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ErrorKind.AUTH, "provider-auth"),
        (ErrorKind.QUOTA_EXHAUSTED, "provider-quota"),
        (ErrorKind.FATAL_CONFIG, "provider-config"),
    ],
)
def test_every_row_that_was_left_has_the_code_and_the_sentence_of_what_stopped_it(
    instance, kind, code
):
    deployment = stopping(instance, kind)
    deployment.upload(ROWS)

    result = deployment.run()

    rows = read_results(deployment.store)
    assert result.success
    assert deployment.status().state is BatchState.COMPLETED_WITH_FAILURES
    assert [row["status"] for row in rows] == ["delivered", "failed", *["not_attempted"] * 4]
    assert {row["error_code"] for row in rows[1:]} == {code}
    assert {row["error"] for row in rows[1:]} == {"the account is closed to us"}
    # No shard after the one that was stopped asks again.
    assert deployment.asked() == ["S0/1", "S1/1"]


def test_a_retry_once_the_account_works_again_finishes_what_was_left(instance):
    deployment = stopping(instance, ErrorKind.QUOTA_EXHAUSTED)
    deployment.upload(ROWS)
    deployment.run()
    deployment.provider = ScriptedProvider()

    deployment.run()

    assert deployment.status().state is BatchState.COMPLETED
    assert sorted(deployment.asked()) == ["S1/1", "S2/1", "S3/1", "S4/1", "S5/1"]
    assert {row["error_code"] for row in read_results(deployment.store)} == {""}
    assert deployment.spent_micros() == (0, 6 * 2_000)


def test_a_further_try_that_the_day_does_not_cover_fails_its_row_and_no_other(instance):
    lost = ProviderError("no answer", kind=ErrorKind.UNKNOWN_OUTCOME)
    deployment = FakeDeployment(
        instance,
        provider=ScriptedProvider({"S1/1": [lost]}),
        limit_micros=6 * 2_000,
        shard_rows=2,
    )
    deployment.upload(ROWS)

    deployment.run()

    rows = read_results(deployment.store)
    assert [row["status"] for row in rows].count("delivered") == 5
    assert (rows[1]["status"], rows[1]["error_code"]) == ("failed", "budget-exceeded")
    assert deployment.spent_micros() == (0, 6 * 2_000)
