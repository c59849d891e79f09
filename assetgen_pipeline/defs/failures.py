"""How a domain error becomes a failed step that a person understands, and no error tells a secret.

Dagster keeps the text of an exception, and of everything that it was raised from, in its
event log and shows it to whoever opens the run.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from assetgen_pipeline.domain.errors import AssetgenError
from assetgen_pipeline.domain.redaction import redact

logger = logging.getLogger(__name__)


class SecretWithheld(Exception):
    """A bug whose text held a secret; the log has its traceback with that blacked out."""


def as_failure(error: AssetgenError) -> dg.Failure:
    """The failure that Dagster shows: code, sentence and fix; retried only where that helps."""
    return dg.Failure(
        description=redact(f"{error.code}: {error} — {error.fix}"),
        metadata={"code": error.code, "fix": error.fix},
        allow_retries=error.retryable,
    )


@contextmanager
def domain_errors_as_failures() -> Iterator[None]:
    """Turn errors of ours into failures of the step; bugs pass through as they are.

    Raises:
        dg.Failure: for every `AssetgenError`.
        SecretWithheld: for a bug whose text holds a secret.
    """
    try:
        yield
    except AssetgenError as error:
        raise as_failure(error) from (None if _tells_a_secret(error) else error)
    except Exception as error:
        if not _tells_a_secret(error):
            raise
        logger.exception("a bug whose text is withheld from the event log")
        message = f"{type(error).__name__}: {redact(str(error))}"
        raise SecretWithheld(message) from None


def _tells_a_secret(error: BaseException | None) -> bool:
    """Whether the text of an exception, or of one that it came from, holds a secret."""
    while error is not None:
        if redact(str(error)) != str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
