"""Which process works on a run, so that a sweep can tell the dead from the living.

Dagster leaves runs of killed processes STARTED; status alone never proves that one is
dead, because a `run` of another terminal may be live. Host, boot, pid and start time do.
"""

import json
import os
import re
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

import dagster as dg

WORKER_TAG = "assetgen/worker"
_PID = re.compile(r"[0-9]{1,9}", re.ASCII)
_LAUNCHER_TAG = ".dagster/grpc_info"


def worker_identity(pid: int | None = None) -> str:
    """`host/boot id/pid/start time` of a process of this host, `""` where it is gone."""
    pid = pid if pid is not None else os.getpid()
    started = _start_time(pid)
    return f"{socket.gethostname()}/{_boot_id()}/{pid}/{started}" if started else ""


def is_gone(worker: str) -> bool:
    """Whether a worker of this host has ended; those of other hosts cannot be judged here."""
    pid = _pid_here(worker)
    if pid is None:
        return False
    if worker.split("/")[1] != _boot_id():
        return True
    present = worker_identity(pid)
    return present != worker and (present != "" or not _is_anothers(pid))


def ask_to_end(worker: str) -> bool:
    """Send TERM to a worker; `False` where it is gone, on another host or of another account."""
    pid = _pid_here(worker)
    if pid is None or is_gone(worker):
        return False
    try:
        os.kill(pid, signal.SIGTERM)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _pid_here(worker: str) -> int | None:
    """The process of a worker of this host; `None` for others, and for a tag of somebody's own."""
    match worker.split("/"):
        case [host, _boot, pid, _started] if host == socket.gethostname() and _PID.fullmatch(pid):
            return int(pid)
    return None


def _is_anothers(pid: int) -> bool:
    """Whether a process of another account has this id: `/proc` can be told to hide those."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    return False


def launcher_is_gone(tags: Mapping[str, str]) -> bool:
    """Whether the code server of this host that was told to start a run is gone.

    Dagster writes where the server listens before it tells it; a server behind a TCP port
    may be anywhere and is never judged.
    """
    where = json.loads(tags.get(_LAUNCHER_TAG, "{}"))
    if "socket" not in where:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(where["socket"])
        except (ConnectionRefusedError, FileNotFoundError):
            return True
    return False


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
        # The name of a program may be in any encoding, and what follows is not.
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return ""
    fields = text.rpartition(")")[2].split()
    # A zombie has ended; its parent has only not fetched its exit code yet.
    return "" if fields[0] in {"Z", "X"} else fields[19]
