"""End children with everything that they started, also with what outlives them."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from assetgen_pipeline.wiring.clock import open_clock

_LOOK_S = 0.1
_SAY_AFTER_S = 3.0


def end_groups(
    leaders: Sequence["subprocess.Popen[bytes]"],
    *,
    within_s: float,
    say: Callable[[], object] = lambda: None,
) -> None:
    """TERM to the group of each leader, `within_s` for all to end by themselves, then KILL.

    `say` is called once where it takes a while. Whatever interrupts the wait, such as a
    second signal, is raised after the KILL.
    """
    try:
        for leader in leaders:
            _signal_group(leader, signal.SIGTERM)
        _wait_for(leaders, within_s=within_s, say=say)
    finally:
        for leader in leaders:
            _signal_group(leader, signal.SIGKILL)
        for leader in leaders:
            leader.wait()


def _wait_for(
    leaders: Sequence["subprocess.Popen[bytes]"], *, within_s: float, say: Callable[[], object]
) -> None:
    clock, pause = open_clock(), threading.Event()
    begun, said = clock.monotonic(), False
    while any(_group_is_alive(leader.pid) for leader in leaders):
        waited_s = clock.monotonic() - begun
        if waited_s >= within_s:
            return
        if waited_s >= _SAY_AFTER_S and not said:
            said = True
            say()
        pause.wait(_LOOK_S)


def _signal_group(leader: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    try:
        os.killpg(leader.pid, number)
    except ProcessLookupError:
        return


def _group_is_alive(group: int) -> bool:
    """Whether a process of the group runs; one that has ended and was not collected does not."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = entry.read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        # proc(5): state, parent and process group follow the command in brackets.
        state, _parent, its_group = text.rpartition(")")[2].split()[:3]
        if int(its_group) == group and state not in {"Z", "X"}:
            return True
    return False
