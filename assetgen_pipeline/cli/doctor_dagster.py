"""Checks of Dagster: daemons, sensors, pools, runs and the instance's settings."""

import math
from collections.abc import Iterator

from assetgen_pipeline.cli.stack_place import stack_age_s
from assetgen_pipeline.domain.findings import Finding
from assetgen_pipeline.domain.health import DaemonHealth, InstanceHealth, PoolHealth
from assetgen_pipeline.settings import Settings
from assetgen_pipeline.wiring.clock import open_clock
from assetgen_pipeline.wiring.stack_record import daemons_stopped_at, stopped_at


def check_dagster(settings: Settings) -> Iterator[Finding]:
    """Everything that the instance's storage tells, also while its daemons are dead."""
    from assetgen_pipeline.defs import inspection

    now = open_clock().now()
    health = inspection.instance_health(settings, now=now)
    ended = daemons_stopped_at(settings)
    if ended is not None:
        health = health.after_a_stop((now - ended).total_seconds())
    limits = inspection.pool_limits(settings)
    yield from pool_findings(health.pools, limits)
    yield from daemon_findings(health, stopped=stopped_at(settings.home) is not None)
    yield from sensor_findings(health, up_s=stack_age_s(settings.home, now=now))
    yield from run_findings(health)
    unset = inspection.missing_options(settings)
    if unset:
        fix = "take dagster.yaml from the repository, or set them in your own"
        yield Finding("warn", "instance", f"not set in dagster.yaml: {', '.join(unset)}", fix)


def pool_findings(pools: tuple[PoolHealth, ...], limits: dict[str, int]) -> Iterator[Finding]:
    """Slots of each pool against what the settings ask for, and leaked ones."""
    slots = ", ".join(f"{pool.name} {pool.used}/{pool.limit}" for pool in pools)
    # A new instance has none; the first command that executes sets them.
    wrong = [p.name for p in pools if p.limit not in (0, limits[p.name])]
    leaked = sum(pool.leaked for pool in pools)
    if leaked:
        value = f"{slots}; {leaked} held by runs that are over"
        yield Finding("FAIL", "pools", value, "assetgen doctor --fix")
    elif wrong:
        value = f"{slots}; another limit than the settings': {', '.join(wrong)}"
        yield Finding("FAIL", "pools", value, "assetgen doctor --fix")
    else:
        yield Finding("ok", "pools", slots)


def daemon_findings(health: InstanceHealth, *, stopped: bool = False) -> Iterator[Finding]:
    """Heartbeats; a machine whose daemon never ran, or was `stopped` in order, is only told so."""
    away = [daemon for daemon in health.daemons if not daemon.alive]
    last = min((d.age_s for d in health.daemons if d.age_s is not None), default=None)
    if not away:
        oldest = max((daemon.age_s or 0.0 for daemon in health.daemons), default=0.0)
        value = f"{len(health.daemons)} with a heartbeat, the oldest {oldest:.0f} s ago"
        yield Finding("ok", "daemons", value)
    elif len(away) < len(health.daemons):
        value = f"no heartbeat: {', '.join(map(_last_beat, away))}"
        yield Finding("FAIL", "daemons", value, "restart dagster-daemon; its log says why")
    elif last is None or stopped:
        yield Finding("warn", "daemons", "none runs: drops wait", "assetgen up")
    else:
        value = f"dead: the last heartbeat was {last:.0f} s ago; drops wait"
        fix = "`assetgen up`, or restart the service of dagster-daemon; its log says how it ended"
        yield Finding("FAIL", "daemons", value, fix)


def _last_beat(daemon: DaemonHealth) -> str:
    since = "never" if daemon.age_s is None else f"last {daemon.age_s:.0f} s ago"
    return f"{daemon.name} ({since})"


def sensor_findings(health: InstanceHealth, *, up_s: float = math.inf) -> Iterator[Finding]:
    """Ticks, judged only where a daemon could make them; none is late in a stack of `up_s`."""
    if not any(daemon.alive for daemon in health.daemons):
        yield Finding("ok", "sensors", "not judged: no daemon runs")
        return
    off = [tick.name for tick in health.ticks if not tick.on]
    dead = [tick for tick in health.ticks if tick.dead and up_s > tick.longest_silence_s]
    for tick in dead:
        since = "never" if tick.age_s is None else f"{tick.age_s:.0f} s ago"
        why = f": {tick.error}" if tick.error else ""
        fix = "read its last tick in the UI under Automation; restart the daemon where it has none"
        yield Finding("FAIL", "sensors", f"{tick.name} last ticked {since}{why}", fix)
    if off:
        fix = "switch them on in the UI under Automation"
        yield Finding("warn", "sensors", f"switched off: {', '.join(off)}", fix)
    if not dead and not off:
        oldest = max((tick.age_s or 0.0 for tick in health.ticks), default=0.0)
        new = sum(tick.age_s is None for tick in health.ticks)
        value = f"{len(health.ticks)} on, the oldest good tick {oldest:.0f} s ago"
        yield Finding("ok", "sensors", f"{value}, {new} yet to tick" if new else value)


def run_findings(health: InstanceHealth) -> Iterator[Finding]:
    """Runs whose process is gone, and how long the queue waits."""
    under_way = ", ".join(f"{count} {status}" for status, count in sorted(health.runs.items()))
    value = f"{under_way or 'none under way'}; the queue waits {health.queue_oldest_s:.0f} s"
    if health.dead_runs:
        value = f"{value}; process gone: {', '.join(health.dead_runs)}"
        yield Finding("FAIL", "runs", value, "assetgen doctor --fix")
    else:
        yield Finding("ok", "runs", value)
