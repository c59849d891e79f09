"""Sensors that look at the deployment as a whole and tell people what is wrong, once.

The cursor holds what was told. A check that cannot look is told as such and hides no other.
https://docs.dagster.io/guides/automate/sensors
"""

from collections.abc import Callable

import dagster as dg

from assetgen_pipeline.defs.instance_health import batches_under_way, drops_under_way, queue_alert
from assetgen_pipeline.domain.alerts import Alert, AlertCursor, AlertKind
from assetgen_pipeline.stages.alerting import Alerting, tell_news
from assetgen_pipeline.stages.conditions import (
    broken_invariants,
    expired_links,
    inbox_lag,
    looked_at,
    stuck_batches,
)
from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.stages.services import Services

Checks = dict[AlertKind, Callable[[], list[Alert]]]


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells people of stuck batches and queues, late drops and ended links.",
)
def deployment_alert_sensor(
    context: dg.SensorEvaluationContext,
    services: dg.ResourceParam[Services],
    deployment: dg.ResourceParam[Deployment],
    alerting: dg.ResourceParam[Alerting],
) -> dg.SkipReason:
    """Look at bucket, holds and queue."""
    store, now, instance = services.store, services.clock.now(), context.instance
    return _report(
        context,
        alerting,
        {
            AlertKind.INBOX_LAG: lambda: inbox_lag(
                store=store,
                now=now,
                longest=alerting.inbox_lag,
                under_way=drops_under_way(instance),
                max_bytes=deployment.csv_limits.max_bytes,
                owners=deployment.inbox_owners,
                provider=deployment.provider,
            ),
            AlertKind.URLS_EXPIRED: lambda: expired_links(store=store, now=now),
            AlertKind.BATCH_STUCK: lambda: stuck_batches(
                batches_under_way(instance),
                services.ledger.open_holds(),
                store=store,
                now=now,
                after=alerting.stuck_after,
            ),
            AlertKind.QUEUE_STUCK: lambda: queue_alert(
                instance, now=now, longest=alerting.inbox_lag
            ),
        },
    )


@dg.sensor(
    minimum_interval_seconds=600,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells people when an invariant of the ledger is broken.",
)
def ledger_alert_sensor(
    context: dg.SensorEvaluationContext,
    services: dg.ResourceParam[Services],
    alerting: dg.ResourceParam[Alerting],
) -> dg.SkipReason:
    """Verify the books."""
    ledger = services.ledger
    return _report(
        context, alerting, {AlertKind.LEDGER_BROKEN: lambda: broken_invariants(ledger=ledger)}
    )


def _report(
    context: dg.SensorEvaluationContext, alerting: Alerting, checks: Checks
) -> dg.SkipReason:
    found, unseen = looked_at(checks)
    cursor = AlertCursor.model_validate_json(context.cursor) if context.cursor else AlertCursor()
    told = tell_news(found, cursor, notifier=alerting.notifier, unseen=unseen)
    context.update_cursor(told.model_dump_json())
    return dg.SkipReason("; ".join(alert.what for alert in found) or "all is well")
