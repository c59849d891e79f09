"""What the load test starts beside the stack: servers that misbehave, and a look at memory."""

import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from assetgen_pipeline.cli.running import end_process
from assetgen_pipeline.domain.errors import AssetgenError
from assetgen_pipeline.settings import PREFIX

_TESTING = "assetgen_pipeline.testing"
_KIB_PER_MB = 1_000
_PAST_PROXIES = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServerFailed(AssetgenError):
    """A server of the load test did not start."""

    fix = "Run it again; its error stands above."


@contextmanager
def misbehaving_server(module: str, *options: str) -> Iterator[str]:
    """Run a stub of `testing` as a process of its own; yields the line that it prints.

    Raises:
        ServerFailed: it ended without one.
    """
    command = [sys.executable, "-W", "ignore", "-m", f"{_TESTING}.{module}", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own
        try:
            line = process.stdout.readline().decode().strip() if process.stdout is not None else ""
            if not line:
                message = f"{module} ended before it served"
                raise ServerFailed(message)
            yield line
        finally:
            end_process(process)


def state_of(base_url: str) -> dict[str, Any]:
    """What a stub says that it was asked."""
    with _PAST_PROXIES.open(f"{base_url}/_stub", timeout=30) as answer:
        state: dict[str, Any] = json.load(answer)
    return state


def order(base_url: str, orders: dict[str, Any]) -> None:
    """Tell a stub what to do next."""
    request = urllib.request.Request(  # noqa: S310 - our own
        f"{base_url}/_stub", data=json.dumps(orders).encode(), method="POST"
    )
    with _PAST_PROXIES.open(request, timeout=30) as answer:
        answer.read()


def link_works(url: str) -> bool:
    """Whether a signed URL gives its object now."""
    try:
        with _PAST_PROXIES.open(url, timeout=30) as answer:
            answer.read(1)
    except OSError:
        return False
    return True


class MemoryWatch:
    """The peak memory of every process that works in one `HOME`, looked at once a second."""

    def __init__(self, home: Path) -> None:
        self._mark = f"{PREFIX}HOME={home}".encode()
        self._over = threading.Event()
        self.largest_mb = 0.0
        self.all_mb = 0.0

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(1.0):
            sizes = [
                _resident_kib(entry) for entry in Path("/proc").glob("[0-9]*") if self._ours(entry)
            ]
            self.largest_mb = max(self.largest_mb, max(sizes, default=0) / _KIB_PER_MB)
            self.all_mb = max(self.all_mb, sum(sizes) / _KIB_PER_MB)

    def _ours(self, process: Path) -> bool:
        try:
            return self._mark in (process / "environ").read_bytes().split(b"\0")
        except OSError:
            return False


def _resident_kib(process: Path) -> int:
    try:
        lines = (process / "status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    found = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    return int(found[0]) if found else 0
