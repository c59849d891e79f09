"""Why a run failed, in the codes of the public contract: what its batch's problem says."""

from collections.abc import Iterator

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from assetgen_pipeline.domain import errors
from assetgen_pipeline.domain.errors import (
    RESUMES_FIX,
    AssetgenError,
    LedgerUnavailable,
    StorageUnavailable,
)

_OUTAGES = {StorageUnavailable.code, LedgerUnavailable.code}
_FAILURES = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}


class RunFailed(AssetgenError):
    """A step of the run failed, or what its steps need could not be opened."""

    fix = "Read the failed step in the Dagster UI, then `assetgen retry BATCH`."

    def __init__(self, message: str, *, code: str = "internal", fix: str | None = None) -> None:
        """`code` and `fix` are those of the error that ended the run, where it was one of ours."""
        super().__init__(message)
        self.code = code
        self.fix = fix or self.fix

    @property
    def was_outage(self) -> bool:
        """Whether nothing was wrong with the batch: bucket or ledger was away."""
        return self.code in _OUTAGES

    def resumed(self, *, resumes: bool) -> "RunFailed":
        """Say too whether a running daemon goes on with the batch."""
        self.resumes = resumes
        self.fix = RESUMES_FIX if resumes else self.fix
        return self


def why_failed(instance: dg.DagsterInstance, run_id: str) -> RunFailed:
    """The error of ours that ended a run, else a failure that needs a look."""
    message = "a step of the run failed"
    for record in instance.all_logs(run_id, of_type=_FAILURES):
        event = record.dagster_event
        if event is None:
            continue
        if event.is_step_failure and event.step_failure_data.user_failure_data is not None:
            told = event.step_failure_data.user_failure_data.metadata
            if "code" in told and "fix" in told:
                return RunFailed(message, code=str(told["code"].value), fix=str(told["fix"].value))
        if event.is_run_failure and event.job_failure_data.error is not None:
            for kind in _kinds(event.job_failure_data.error):
                return RunFailed(message, code=kind.code, fix=kind.fix)
    return RunFailed(message)


def _kinds(error: SerializableErrorInfo) -> Iterator[type[AssetgenError]]:
    """The errors of ours in a chain of causes, the outermost first."""
    link: SerializableErrorInfo | None = error
    while link is not None:
        kind = getattr(errors, link.cls_name or "", None)
        if isinstance(kind, type) and issubclass(kind, AssetgenError):
            yield kind
        link = link.cause or link.context
