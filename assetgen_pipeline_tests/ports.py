"""Ports of loopback for tests: one that nobody else comes by meanwhile, and one that refuses."""

import contextlib
import random
import socket

# None of them is given to whoever asks for any port, nor to a connection: those may be another's
# by the time that the server they are meant for has started, or starts again.
_OURS = range(10_000, 20_000)


def free_port():
    """A port that is free, and that only those get who ask for it by its number."""
    for port in random.SystemRandom().sample(_OURS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


@contextlib.contextmanager
def refusing_port():
    """A port that refuses connections: bound, so that nobody else gets it, and not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
