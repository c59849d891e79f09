"""Every metric that exists: its name, kind, labels and meaning.

Units are in the names. Labels come from closed sets, or are owners (a bounded number).
`docs/monitoring.md`, the dashboard and the alert rules name these and no others.
"""

from dataclasses import dataclass
from typing import Literal

PREFIX = "assetgen_"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric."""

    name: str
    kind: Literal["gauge", "counter"]
    labels: tuple[str, ...]
    help: str


def _gauge(name: str, help_text: str, *labels: str) -> Family:
    return Family(PREFIX + name, "gauge", labels, help_text)


def _counter(name: str, help_text: str, *labels: str) -> Family:
    return Family(PREFIX + name, "counter", labels, help_text)


FAMILIES = {
    family.name: family
    for family in (
        _gauge("build_info", "Always 1; the release that wrote these metrics.", "version"),
        _gauge("source_up", "1 where bucket, ledger or Dagster could be read, else 0.", "source"),
        _gauge("scrape_duration_seconds", "How long it took to gather these metrics."),
        _gauge("rows", "Rows that had an attempt, by what became of them.", "status"),
        _gauge("images", "Images that had an attempt, by what became of them.", "status"),
        _counter(
            "attempts_total", "Attempts that ended, by provider and how.", "provider", "outcome"
        ),
        # Not a counter: a reconciled bill may be lower, and an owner may get a label of its own.
        _gauge(
            "cost_usd_total", "Money spent since the ledger began, dollars.", "owner", "provider"
        ),
        _gauge("limit_usd", "Today's limit, dollars.", "owner"),
        _gauge("held_usd", "Held today for batches under way, dollars.", "owner"),
        _gauge("inflight_usd", "Ceilings of calls in flight, dollars.", "owner", "provider"),
        _gauge("settled_usd", "Spent today, dollars.", "owner"),
        _gauge("assumed_usd", "Part of today's spend that nobody can know, dollars.", "owner"),
        _gauge("overrun_usd", "What today's bills passed their cover by, dollars.", "owner"),
        _gauge("headroom_usd", "What can still be reserved today, dollars.", "owner"),
        _gauge("assumed_attempts", "Attempts that wait for `assetgen ledger reconcile`."),
        _gauge("open_holds", "Holds that are open."),
        _gauge("open_hold_oldest_seconds", "Age of the oldest open hold, 0 without any."),
        _gauge("ledger_violations", "What breaks each invariant of the books.", "invariant"),
        _gauge("batches", "Batches with a run in the last 24 hours, by state.", "state"),
        _gauge("inbox_files", "CSVs that wait and that no run is for."),
        _gauge("inbox_oldest_seconds", "Age of the oldest of these CSVs, 0 without any."),
        _gauge("urls_expiring_batches", "Batches whose links end within the time.", "within"),
        _gauge("runs", "Runs under way, by status.", "status"),
        _gauge("queue_oldest_seconds", "Time that the oldest queued run waits, 0 without any."),
        _gauge("dead_runs", "Runs under way whose process on this host is gone."),
        _gauge("pool_slots", "Slots of each pool.", "pool"),
        _gauge("pool_slots_used", "Slots that are taken.", "pool"),
        _gauge("pool_slots_leaked", "Slots that runs hold which are over.", "pool"),
        _gauge(
            "daemon_heartbeat_age_seconds",
            "Time since a daemon's heartbeat; +Inf: never.",
            "daemon",
        ),
        _gauge(
            "sensor_tick_age_seconds",
            "Time since a sensor's last good tick; +Inf: never.",
            "sensor",
        ),
        _gauge("sensor_dead", "1 where a sensor should have ticked by now, else 0.", "sensor"),
    )
}
