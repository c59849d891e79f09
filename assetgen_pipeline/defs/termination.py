"""What SIGTERM and SIGINT do to a process that makes images: calls in flight are paid, so they finish.

SIGTERM comes from supervisors; SIGINT is what Dagster sends itself where somebody terminates
the run in the UI.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stopping_gently(stop: Callable[[], bool]) -> Iterator[None]:
    """Inside, a signal calls `stop`; once that gives `False`, and always outside, it does what it did.

    So the first signal asks and a second one ends the process. Does nothing outside the main
    thread, where no signal can be handled.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # `None` is a handler that was not installed from Python: nothing that could be put back.
    former = {number: signal.getsignal(number) or signal.SIG_DFL for number in _SIGNALS}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    def ask(signum: int, _frame: FrameType | None) -> None:
        if not stop():
            restore()
            os.kill(os.getpid(), signum)

    try:
        for number in _SIGNALS:
            signal.signal(number, ask)
        yield
    finally:
        restore()
