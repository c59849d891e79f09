"""How a Dagster instance is, in numbers: daemons, sensors, pools and runs."""

import math
from collections.abc import Iterable
from datetime import timedelta
from typing import Literal

from assetgen_pipeline.domain.image_request import Value

# A daemon writes one every 30 s; Dagster itself calls it healthy for half an hour.
LONGEST_WITHOUT_HEARTBEAT = timedelta(seconds=90)


class DaemonHealth(Value):
    """One daemon by its heartbeat."""

    name: str
    age_s: float | None
    """Seconds since its last heartbeat; `None` where it never had one."""
    stopped: bool = False
    """Whether it is known to have been stopped since."""

    @property
    def alive(self) -> bool:
        """Whether its last heartbeat is recent, and nobody stopped it since."""
        recent = self.age_s is not None and self.age_s < LONGEST_WITHOUT_HEARTBEAT.total_seconds()
        return recent and not self.stopped


class TickHealth(Value):
    """One sensor or schedule by its ticks."""

    name: str
    kind: Literal["sensor", "schedule"]
    on: bool
    """Whether it is meant to run."""
    every_s: float
    """Seconds that should lie between two ticks at most."""
    age_s: float | None
    """Seconds since its last good tick; `None` where it never had one."""
    watched_s: float | None = None
    """For how long it is on and a daemon was up to tick it; `None` where nobody can tell."""
    error: str = ""
    """The first line of its last tick's failure, empty where that was good."""

    @property
    def dead(self) -> bool:
        """Whether it is meant to run and had no good tick for too long, with a daemon up."""
        silences = (self.age_s, self.watched_s)
        silence_s = min((s for s in silences if s is not None), default=math.inf)
        return self.on and silence_s > self.longest_silence_s

    @property
    def longest_silence_s(self) -> float:
        """The silence beyond which something is wrong: three turns, and five minutes at least."""
        return max(3 * self.every_s, timedelta(minutes=5).total_seconds())


def unbroken_s(instants: Iterable[float], *, now: float, gap_s: float) -> float | None:
    """For how long instants follow each other, none later than `gap_s`; `None` if none is recent."""
    since: float | None = None
    for instant in sorted(instants, reverse=True):
        if (now if since is None else since) - instant > gap_s:
            break
        since = instant
    return None if since is None else max(0.0, now - since)


class PoolHealth(Value):
    """One pool by its slots."""

    name: str
    limit: int
    used: int
    leaked: int
    """Slots that runs hold which are over."""


class InstanceHealth(Value):
    """Everything at one moment."""

    daemons: tuple[DaemonHealth, ...]
    ticks: tuple[TickHealth, ...]
    pools: tuple[PoolHealth, ...]
    runs: dict[str, int]
    """Runs under way, by status in lower case."""
    queue_oldest_s: float
    """Seconds that the oldest queued run waits; 0 without any."""
    dead_runs: tuple[str, ...]
    """Ids of runs under way whose process on this host is gone."""

    def after_a_stop(self, seconds: float) -> "InstanceHealth":
        """The same, where every daemon with no heartbeat in these last seconds was stopped then."""
        daemons = tuple(
            daemon.model_copy(update={"stopped": True})
            if daemon.age_s is not None and daemon.age_s >= seconds
            else daemon
            for daemon in self.daemons
        )
        return self.model_copy(update={"daemons": daemons})
