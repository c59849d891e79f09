"""Signals to a process that makes images."""

import os
import signal
import threading

import pytest

from assetgen_pipeline.defs.termination import stopping_gently

pytestmark = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@pytest.fixture
def former():
    """What the signals did before: here they are noted."""
    received = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    kept = {one: signal.signal(one, lambda told, _: received.append(told)) for one in numbers}
    yield received
    for one, handler in kept.items():
        signal.signal(one, handler)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_and_the_second_ends(former, number, second):
    asked, answers = [], [True, False]

    def stop():
        asked.append("stop")
        return answers.pop(0)

    with stopping_gently(stop):
        send(number)
        once = (list(asked), list(former))
        send(second)

    assert once == (["stop"], [])
    assert (asked, former) == (["stop", "stop"], [second])


def test_outside_a_signal_does_what_it_did(former, number):
    with stopping_gently(lambda: True):
        pass
    send(number)

    assert former == [number]


def test_outside_the_main_thread_nothing_is_changed(former, number):
    def work():
        with stopping_gently(lambda: True):
            send(number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert former == [number]
