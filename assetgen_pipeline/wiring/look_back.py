"""How far back a question about costs looks, in budget days."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from assetgen_pipeline.domain.budget import budget_date_at
from assetgen_pipeline.setting_forms import duration
from assetgen_pipeline.settings import Settings
from assetgen_pipeline.wiring.clock import open_clock


def look_back(since: str | date | timedelta, settings: Settings) -> tuple[date, date]:
    """The first budget day of a span (`30d`), day (`2026-11-01`) or instant, and today.

    Raises:
        ValueError: `since` is neither; the text says what is taken.
    """
    now, zone = open_clock().now(), ZoneInfo(settings.budget_time_zone)
    return _first_day(since, now=now, zone=zone), budget_date_at(now, zone)


def _first_day(since: str | date | timedelta, *, now: datetime, zone: ZoneInfo) -> date:
    span = duration(since)
    if isinstance(span, timedelta):
        try:
            return budget_date_at(now - span, zone)
        except OverflowError:
            return date.min
    if isinstance(since, datetime):
        # An instant is a day too, to Python: without a zone, one of the budget's.
        return budget_date_at(since, zone) if since.tzinfo else since.date()
    try:
        return since if isinstance(since, date) else date.fromisoformat(str(since))
    except ValueError:
        message = f"{str(since)[:40]!r} is not a span (30d, 12h) nor a date (2026-11-01)"
        raise ValueError(message) from None
