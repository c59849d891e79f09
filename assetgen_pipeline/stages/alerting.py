"""Tell people what was found, each thing once; telling never fails what it tells of."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from assetgen_pipeline.domain.alerts import Alert, AlertCursor, AlertKind, plan_alerts
from assetgen_pipeline.domain.errors import NotificationFailed
from assetgen_pipeline.ports.notifier import Notifier

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerting:
    """Who is told, and from when on something is worth telling."""

    notifier: Notifier
    inbox_lag: timedelta = timedelta(minutes=10)
    stuck_after: timedelta = timedelta(hours=1)


def tell(alert: Alert, *, notifier: Notifier) -> bool:
    """Tell one alert; whether anybody was told."""
    try:
        notifier.notify(alert)
    except NotificationFailed as failure:
        logger.warning("nobody was told: %s", failure, extra={"alert": alert.kind.value})
        return False
    return True


def tell_news(
    found: Sequence[Alert],
    cursor: AlertCursor,
    *,
    notifier: Notifier,
    unseen: Collection[AlertKind] = (),
) -> AlertCursor:
    """Tell what is new; what nobody could be told is tried again with the next call."""
    plan = plan_alerts(found, cursor, unseen=unseen)
    untold = {alert.key for alert in plan.news if not tell(alert, notifier=notifier)}
    told = {key: state for key, state in plan.cursor.told.items() if key not in untold}
    return AlertCursor(told=told)
