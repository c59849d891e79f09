"""The heartbeat: a schedule that looks after the sensors.

Dagster says nothing when a sensor fails or no longer ticks, and a dead inbox sensor means
that drops lie there. Schedules tick in a thread of their own, so this one outlives them;
what outlives the daemon itself is `assetgen metrics` and `assetgen doctor` from outside.
https://docs.dagster.io/guides/automate/schedules
"""

import dagster as dg

from assetgen_pipeline.defs.instance_health import tick_healths
from assetgen_pipeline.defs.jobs import generate_batch
from assetgen_pipeline.defs.sensors import SENSORS
from assetgen_pipeline.domain.alerts import Alert, AlertCursor, AlertKind
from assetgen_pipeline.domain.health import TickHealth
from assetgen_pipeline.stages.alerting import Alerting, tell_news

NAME = "heartbeat"
_EVERY_S = 60.0
_CURSOR = "assetgen/heartbeat"
TICKING = {
    **{sensor.name: float(sensor.minimum_interval_seconds or 30) for sensor in SENSORS},
    NAME: _EVERY_S,
}


@dg.schedule(
    name=NAME,
    job=generate_batch,
    cron_schedule="* * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Tells people when a sensor no longer ticks; starts no run.",
)
def heartbeat(
    context: dg.ScheduleEvaluationContext, alerting: dg.ResourceParam[Alerting]
) -> dg.SkipReason:
    """Look at the age of every sensor's last good tick."""
    instance, now = context.instance, context.scheduled_execution_time
    healths = tick_healths(instance, TICKING, now=now, turns=[now])
    own = next(health for health in healths if health.name == NAME)
    if own.watched_s is None or own.watched_s <= own.longest_silence_s:
        return dg.SkipReason("just woken; the sensors have five minutes to do so too")
    storage = instance.daemon_cursor_storage
    known = storage.get_cursor_values({_CURSOR}).get(_CURSOR)
    cursor = AlertCursor.model_validate_json(known) if known else AlertCursor()
    dead = [health for health in healths if health.dead and health.name != NAME]
    told = tell_news([_alert(health) for health in dead], cursor, notifier=alerting.notifier)
    storage.set_cursor_values({_CURSOR: told.model_dump_json()})
    return dg.SkipReason(", ".join(health.name for health in dead) or "every sensor ticks")


def _alert(health: TickHealth) -> Alert:
    since = "never ticked" if health.age_s is None else f"last ticked {health.age_s:.0f} s ago"
    why = f": {health.error}" if health.error else ""
    return Alert(
        kind=AlertKind.SENSOR_DEAD,
        about=health.name,
        what=f"the sensor {health.name} {since}{why}",
        command="assetgen doctor",
    )
