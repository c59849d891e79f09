"""Which process works on a run, so that a sweep can tell the dead from the living.

Dagster leaves runs of killed processes STARTED; status alone never proves that one is
dead, because a `run` of another terminal may be live. Host, boot, pid and start time do.
"""

import os
import socket
from pathlib import Path

import dagster as dg

WORKER_TAG = "assetgen/worker"


def worker_identity(pid: int | None = None) -> str:
    """`host/boot id/pid/start time` of a process of this host, `""` where it is gone."""
    pid = pid if pid is not None else os.getpid()
    started = _start_time(pid)
    return f"{socket.gethostname()}/{_boot_id()}/{pid}/{started}" if started else ""


def is_gone(worker: str) -> bool:
    """Whether a worker of this host has ended; those of other hosts cannot be judged here."""
    host, boot, pid, _started = worker.split("/")
    if host != socket.gethostname():
        return False
    return boot != _boot_id() or worker_identity(int(pid)) != worker


def stamp_worker(context: dg.InitResourceContext) -> None:
    """Tag the run that a resource is opened for with this process."""
    run, instance = context.run, context.instance
    if run is None or instance is None:
        return
    worker = worker_identity()
    if run.tags.get(WORKER_TAG) != worker and instance.has_run(run.run_id):
        instance.add_run_tags(run.run_id, {WORKER_TAG: worker})


def _boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text(encoding="ascii").strip() if path.exists() else "no-boot-id"


def _start_time(pid: int) -> str:
    """The start time of a process in clock ticks since boot (proc(5), field 22)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    # A zombie has ended; its parent has only not fetched its exit code yet.
    return "" if fields[0] in {"Z", "X"} else fields[19]
