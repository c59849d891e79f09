"""The alert of a run that ended badly: sent once its batch is closed, with its figures."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster_shared.error import SerializableErrorInfo

from assetgen_pipeline.defs.runs import PARTITION_TAG
from assetgen_pipeline.domain.alerts import AlertKind, run_alert
from assetgen_pipeline.domain.bucket_layout import is_batch_id
from assetgen_pipeline.domain.errors import AssetgenError
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.domain.status import BatchStatus
from assetgen_pipeline.stages.alerting import Alerting, tell
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.stages.services import Services

_INTERRUPTED = DagsterExecutionInterruptedError.__name__


def failure_text(context: dg.RunFailureSensorContext) -> str:
    """Why the run failed, in the words of its first failed step.

    The event of the run itself says only which steps failed.
    """
    for event in context.get_step_failure_events():
        data = event.step_failure_data
        if data.user_failure_data is not None and data.user_failure_data.description:
            return data.user_failure_data.description
        if data.error is not None and data.error.cls_name == _INTERRUPTED:
            return f"its process was told to end in {event.step_key}"
        if data.error is not None:
            return f"a bug of ours in {event.step_key}: {_first_cause(data.error)}"
    return context.failure_event.message or "the run failed"


def _first_cause(error: SerializableErrorInfo) -> str:
    while error.cause is not None:
        error = error.cause
    return error.message.strip()


@contextmanager
def telling(
    run: dg.DagsterRun, kind: AlertKind, why: str, services: Services, alerting: Alerting
) -> Iterator[None]:
    """Tell of a run after the batch was closed, also where that did not work."""
    batch_id = run.tags.get(PARTITION_TAG, "")
    try:
        yield
    except AssetgenError as error:
        why = f"{why} (its batch could not be closed: {error.code})"
        raise
    finally:
        if is_batch_id(batch_id):
            status, held = _figures(batch_id, services)
            alert = run_alert(
                kind, status, batch_id=batch_id, run_id=run.run_id, why=why, held=held
            )
            tell(alert, notifier=alerting.notifier)


def _figures(batch_id: str, services: Services) -> tuple[BatchStatus | None, Money]:
    try:
        hold = services.ledger.open_hold(batch_id)
        return read_status(batch_id, store=services.store), hold.amount if hold else ZERO
    except AssetgenError:
        # The alert goes out without figures; what is unreachable alerts by itself.
        return None, ZERO
