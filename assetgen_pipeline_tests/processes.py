"""Processes that tests start, look for and kill, and the patience to wait for what they do."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

# A busy machine is slow; a test that waits for what never comes ends all the same.
DEADLINE_S = 900


def until(look, *, deadline_s=DEADLINE_S, every_s=0.1):
    """What `look` gives as soon as it gives something."""
    pause, deadline = threading.Event(), time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        pause.wait(every_s)
    raise AssertionError("it did not come in time")


def is_alive(process_id):
    """Whether a process is there and not a zombie."""
    try:
        stat = Path(f"/proc/{process_id}/stat").read_bytes()
    except OSError:
        # It may also go between the opening and the reading: ESRCH.
        return False
    return stat.rpartition(b")")[2].split()[0] not in {b"Z", b"X"}


def processes_of(home):
    """The processes of this HOME but this one: id -> command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            if str(home).encode() in command + b"\0" + (entry / "environ").read_bytes():
                found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
    return found


def kill(process_ids):
    """SIGKILL all of these at once."""
    for process_id in process_ids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGKILL)


def kill_all_of(home):
    """SIGKILL every process of this HOME, those that start meanwhile too."""
    while pids := processes_of(home):
        kill(pids)
        until(lambda pids=pids: not any(is_alive(pid) for pid in pids), every_s=0.02)
