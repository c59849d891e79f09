"""What Dagster keeps of an error: enough to understand it, and no secret of its whole chain."""

import dagster as dg
import pytest

from assetgen_pipeline.defs.failures import domain_errors_as_failures
from assetgen_pipeline.domain.errors import StorageUnavailable

SECRET = "GET https://x.test/o?X-Goog-Signature=CANARY0123"


def theirs():
    raise OSError(SECRET)


def ours_from_theirs():
    try:
        theirs()
    except OSError as error:
        raise StorageUnavailable("the bucket does not answer") from error


def ours_while_theirs():
    try:
        theirs()
    except OSError:
        raise StorageUnavailable("the bucket does not answer")  # noqa: B904 - on purpose


def a_bug():
    raise KeyError(SECRET)


def a_bug_from_theirs():
    try:
        theirs()
    except OSError as error:
        raise RuntimeError("no luck") from error


def kept_by_dagster(raises, instance):
    @dg.op
    def step():
        with domain_errors_as_failures():
            raises()

    @dg.job
    def job():
        step()

    result = job.execute_in_process(instance=instance, raise_on_error=False)
    return "\n".join(repr(entry) for entry in instance.all_logs(result.run_id))


@pytest.mark.parametrize("raises", [ours_from_theirs, ours_while_theirs, a_bug, a_bug_from_theirs])
def test_no_secret_of_the_whole_chain_is_kept(instance, raises, caplog):
    kept = kept_by_dagster(raises, instance)

    assert "CANARY" not in kept
    assert "does not answer" in kept or "KeyError" in kept or "no luck" in kept


def test_a_bug_without_a_secret_keeps_its_traceback(instance):
    def plain():
        raise KeyError("scene")

    kept = kept_by_dagster(plain, instance)

    assert "KeyError: 'scene'" in kept
    assert "in plain" in kept
