"""How a domain error becomes a failed step that a person understands."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from assetgen_pipeline.domain.errors import AssetgenError


def as_failure(error: AssetgenError) -> dg.Failure:
    """The failure that Dagster shows: code, sentence and fix; retried only where that helps."""
    return dg.Failure(
        description=f"{error.code}: {error} — {error.fix}",
        metadata={"code": error.code, "fix": error.fix},
        allow_retries=error.retryable,
    )


@contextmanager
def domain_errors_as_failures() -> Iterator[None]:
    """Turn errors of ours into failures of the step; bugs pass through as they are.

    Raises:
        dg.Failure: for every `AssetgenError`.
    """
    try:
        yield
    except AssetgenError as error:
        raise as_failure(error) from error
