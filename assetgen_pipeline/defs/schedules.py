"""All schedules of the code location.

https://docs.dagster.io/guides/automate/schedules
"""

from datetime import date, timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from assetgen_pipeline.defs.cost_daily import JOB, NAME
from assetgen_pipeline.defs.heartbeat import heartbeat
from assetgen_pipeline.defs.recorded_costs import recorded
from assetgen_pipeline.domain.budget import day_bounds
from assetgen_pipeline.stages.services import Services

_LOOK_BACK = timedelta(days=90)
_DAYS_PER_TICK = 31


def all_schedules(time_zone: str) -> list[dg.ScheduleDefinition]:
    """The heartbeat, and the schedule that keeps `cost_daily` fresh."""
    return [heartbeat, _publish_costs(time_zone)]


def _publish_costs(time_zone: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        name="publish_costs_schedule",
        cron_schedule="5 * * * *",
        execution_timezone=time_zone,
        job_name=JOB,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Publishes yesterday once it is over, and every day whose ledger moved.",
    )
    def publish_costs_schedule(
        context: dg.ScheduleEvaluationContext, services: dg.ResourceParam[Services]
    ) -> list[dg.RunRequest] | dg.SkipReason:
        due = days_due(context.instance, ZoneInfo(time_zone), services=services)
        tick = context.scheduled_execution_time.isoformat()
        requests = [
            dg.RunRequest(partition_key=day.isoformat(), run_key=f"{day} {tick}")
            for day in due[-_DAYS_PER_TICK:]
        ]
        return requests or dg.SkipReason("every day is published as the ledger has it")

    return publish_costs_schedule


def days_due(
    instance: dg.DagsterInstance, time_zone: ZoneInfo, *, services: Services
) -> list[date]:
    """The days whose ledger moved since they were published, and yesterday once it is over."""
    today = services.ledger.budget_date(services.clock.now())
    yesterday = today - timedelta(days=1)
    entries = services.ledger.day_entries(today - _LOOK_BACK)
    due = []
    for day in sorted({*entries, yesterday}):
        said = recorded(instance, NAME, day.isoformat())
        moved = said is None or said.numbers.get("ledger_entries") != entries.get(day, 0)
        unfinished = (
            said is not None and day < today and said.at < day_bounds(day, time_zone)[1].timestamp()
        )
        if moved or unfinished:
            due.append(day)
    return due
