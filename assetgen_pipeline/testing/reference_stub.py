"""A reference server on this machine: some of its addresses answer, some hang, some fail.

A process of its own for load tests. Every hanging and failing address is a port of its own,
because a host that fails is given up. It prints its addresses as one line of JSON, and
`GET /_stub` on the first says what it was asked:

    python -m assetgen_pipeline.testing.reference_stub --hanging 4 --failing 4
"""

import argparse
import json
import select
import signal
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

from assetgen_pipeline.testing.pictures import one_colour_png

Manner = Literal["answers", "hangs", "fails"]


class ReferenceStub:
    """The server; a context manager that listens while it is entered."""

    def __init__(self, *, hanging: int = 0, failing: int = 0, latency_s: float = 0.0) -> None:
        self.latency_s = latency_s
        self.counts: Counter[str] = Counter()
        self.peak = 0
        self.longest_hang_s = 0.0
        self._in_flight: dict[socket.socket, float] = {}
        self._hanging: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.over = threading.Event()
        self._servers = [
            _Server(self, "answers"),
            *(_Server(self, "hangs") for _ in range(hanging)),
            *(_Server(self, "fails") for _ in range(failing)),
        ]

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(
                target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
            ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def urls(self) -> dict[str, list[str]]:
        """The addresses by manner."""
        found: dict[str, list[str]] = {"answers": [], "hangs": [], "fails": []}
        for server in self._servers:
            found[server.manner].append(f"http://127.0.0.1:{server.server_address[1]}")
        return found

    def state(self) -> dict[str, Any]:
        """What was asked so far."""
        with self._lock:
            self._let_go_of_left()
            return {
                "counts": dict(self.counts),
                "peak": self.peak,
                "open_hangs": len(self._hanging),
                "longest_hang_s": round(self.longest_hang_s, 3),
            }

    def began(self, manner: Manner, client: socket.socket) -> None:
        """Count one request in."""
        with self._lock:
            self._let_go_of_left()
            self.counts[manner] += 1
            self._in_flight[client] = time.monotonic()
            if manner == "hangs":
                self._hanging.add(client)
            self.peak = max(self.peak, len(self._in_flight))

    def ended(self, client: socket.socket) -> None:
        """Count one request out."""
        with self._lock:
            self._end(client)

    def _let_go_of_left(self) -> None:
        """Count those out who gave up waiting.

        Each has a thread that notices too, but may come to it after the client's next request.
        """
        for client in [one for one in self._hanging if _has_left(one)]:
            self._end(client)

    def _end(self, client: socket.socket) -> None:
        began = self._in_flight.pop(client, None)
        if client in self._hanging and began is not None:
            self._hanging.remove(client)
            self.longest_hang_s = max(self.longest_hang_s, time.monotonic() - began)


def _has_left(client: socket.socket) -> bool:
    ready = select.poll()
    ready.register(client, select.POLLIN)
    if not ready.poll(0):
        return False
    try:
        return not client.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # they are waited for at the end, so that each closes its socket
    request_queue_size = 256

    def __init__(self, stub: ReferenceStub, manner: Manner) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stub = stub
        self.manner = manner


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        stub, manner = self.server.stub, self.server.manner
        if self.path == "/_stub":
            self._send(200, json.dumps(stub.state()).encode(), "application/json")
            return
        stub.began(manner, self.connection)
        try:
            if manner == "hangs":
                self._hang()
                return
            stub.over.wait(stub.latency_s)
        finally:
            # Before the answer: the client may have its next request here sooner than we return.
            stub.ended(self.connection)
        if manner == "fails":
            self._send(503, b"", "text/plain")
        else:
            self._send(200, one_colour_png(96, 64, seed=self.path.encode()), "image/png")

    def _hang(self) -> None:
        """Say nothing until the client has gone."""
        self.connection.settimeout(0.2)
        while not self.server.stub.over.is_set():
            try:
                if not self.connection.recv(1024):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        self.close_connection = True

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing; `counts` tells what happened."""


def main(arguments: list[str] | None = None) -> None:
    """Serve until a signal comes; the addresses are the only line printed."""
    parser = argparse.ArgumentParser(description="Reference images, some of which never come.")
    parser.add_argument("--hanging", type=int, default=0)
    parser.add_argument("--failing", type=int, default=0)
    parser.add_argument("--latency-s", type=float, default=0.0)
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    with ReferenceStub(**vars(parser.parse_args(arguments))) as stub:
        print(json.dumps(stub.urls()), flush=True)  # noqa: T201 - what whoever started it waits for
        over.wait()


if __name__ == "__main__":
    main()
