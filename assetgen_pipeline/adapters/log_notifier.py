"""Alerts in the log: always, besides wherever else they go."""

import logging
from collections.abc import Sequence

from assetgen_pipeline.domain.alerts import Alert, alert_text
from assetgen_pipeline.domain.errors import NotificationFailed
from assetgen_pipeline.ports.notifier import Notifier

logger = logging.getLogger(__name__)


class LogNotifier(Notifier):
    """Logs every alert, then tells each of the others; one that fails never stops the next."""

    def __init__(self, others: Sequence[Notifier] = ()) -> None:
        self._others = tuple(others)

    def notify(self, alert: Alert) -> None:
        """Log it and tell the others.

        Raises:
            NotificationFailed: there are others, and none of them was told.
        """
        logger.error(
            alert_text(alert),
            extra={
                "alert": alert.kind.value,
                "batch": alert.batch_id,
                "owner": alert.owner,
                "run": alert.run_id,
            },
        )
        failures = []
        for other in self._others:
            try:
                other.notify(alert)
            except NotificationFailed as failure:
                logger.warning("alert not delivered: %s", failure, extra={"alert": alert.kind})
                failures.append(failure)
        if failures and len(failures) == len(self._others):
            raise failures[-1]
