"""An image provider on this machine that speaks both vendors' protocols and obeys.

A real HTTP server on 127.0.0.1, for tests, the soak and load tests. What it answers is
said in this process (`answer`, `always`), by `POST /_stub` or on the command line; what it
was asked, billed and made, in `counts` and `GET /_stub`:

    python -m assetgen_pipeline.testing.provider_stub --port 0 --mix rate_limited=0.1,drop=0.02
"""

import argparse
import hashlib
import json
import signal
import socket
import sys
import threading
from collections import Counter, deque
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from assetgen_pipeline.testing import stub_gemini, stub_openai
from assetgen_pipeline.testing.stub_answers import Answering, StubAnswer, StubRequest

ATTEMPT_HEADER = "x-client-request-id"
_ANSWERS: Mapping[str, Mapping[str, Answering]] = {
    "gemini": stub_gemini.GEMINI_ANSWERS,
    "openai": stub_openai.OPENAI_ANSWERS,
}


class ProviderStub:
    """The server; a context manager that listens while it is entered.

    `answer(...)` queues what comes next, `always(...)` says what comes when nothing is
    queued. `mix` gives shares of requests to other answers, chosen by hash of `seed` and
    the request's number. `requests` keeps what was asked (turn off with `keep=False`).
    """

    def __init__(
        self,
        *,
        port: int = 0,
        latency_s: float = 0.0,
        mix: Mapping[str, float] | None = None,
        seed: int = 0,
        long_edge_px: int = 64,
        keep: bool = True,
    ) -> None:
        self.latency_s = latency_s
        self.long_edge_px = long_edge_px
        self.requests: list[StubRequest] = []
        self.counts: Counter[str] = Counter()
        """`requests`, `billed`, `images`, `downloads`, and each answer by its name."""
        self.attempts: dict[str, list[str]] = {}
        """The answers that each attempt got, by its id where the client sends one."""
        self.failing_downloads = 0
        """How many of the next downloads of an image fail."""
        self.peak = 0
        self._in_flight = 0
        self._mix = dict(mix or {})
        self._seed = seed
        self._keep = keep
        self._queue: deque[str] = deque()
        self._always = "ok"
        self._own: dict[str, Answering] = {}
        self._pictures: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.stub = self

    def __enter__(self) -> Self:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The address, for `GOOGLE_GEMINI_BASE_URL`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def openai_url(self) -> str:
        """The address, for `OPENAI_BASE_URL`."""
        return f"{self.url}/v1"

    def answer(self, *answers: str | Answering) -> None:
        """Queue what the next requests get, by name or as a function of the request."""
        with self._lock:
            self._queue.extend(self._named(answer) for answer in answers)

    def always(self, answer: str | Answering) -> None:
        """Say what requests get when nothing is queued."""
        with self._lock:
            self._always = self._named(answer)

    def state(self) -> dict[str, Any]:
        """What was asked, billed and made so far."""
        with self._lock:
            return {"counts": dict(self.counts), "attempts": dict(self.attempts), "peak": self.peak}

    def obey(self, order: Mapping[str, Any]) -> None:
        """Take `{"queue": [names], "always": name, "mix": {name: share}, "latency_s": n}`."""
        self.answer(*order.get("queue", ()))
        if "always" in order:
            self.always(order["always"])
        with self._lock:
            self._mix = order.get("mix", self._mix)
            self.latency_s = order.get("latency_s", self.latency_s)

    def decide(self, request: StubRequest) -> StubAnswer:
        """The answer to a request, counted."""
        with self._lock:
            name = self._queue.popleft() if self._queue else self._mixed(request.number)
        answering = self._own.get(name) or _ANSWERS[request.protocol][name]
        answer = answering(request)
        with self._lock:
            if self._keep:
                self.requests.append(request)
            if answer.images:
                self._pictures[f"/images/{request.number}.png"] = request.picture()
            self.counts.update({name: 1, "billed": answer.billed, "images": answer.images})
            self.attempts.setdefault(request.attempt_id or "-", []).append(name)
        return answer

    def next_number(self) -> int:
        """Count one request in."""
        with self._lock:
            self.counts["requests"] += 1
            self._in_flight += 1
            self.peak = max(self.peak, self._in_flight)
            return self.counts["requests"]

    def ended(self) -> None:
        """Count one request out."""
        with self._lock:
            self._in_flight -= 1

    def picture(self, path: str) -> bytes | None:
        """An image that was answered by URL, unless this download is one that fails."""
        with self._lock:
            self.counts["downloads"] += 1
            if self.failing_downloads > 0:
                self.failing_downloads -= 1
                return None
            return self._pictures.get(path)

    def wait(self, seconds: float | None) -> None:
        """Wait, but no longer than the server lives."""
        self._over.wait(seconds)

    def _named(self, answer: str | Answering) -> str:
        if isinstance(answer, str):
            if not any(answer in answers for answers in _ANSWERS.values()):
                message = f"no answer is called {answer!r}"
                raise ValueError(message)
            return answer
        name = f"own-{len(self._own)}"
        self._own[name] = answer
        return name

    def _mixed(self, number: int) -> str:
        digest = hashlib.sha256(f"{self._seed}:{number}".encode()).digest()
        point = int.from_bytes(digest[:8], "big") / 2**64
        for name, share in self._mix.items():
            if point < share:
                return name
            point -= share
        return self._always


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    stub: ProviderStub

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Clients that were killed are part of the test; anything else is a bug of the stub."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        stub = self.server.stub
        if self.path == "/_stub":
            self._send(200, json.dumps(stub.state()).encode(), {"Content-Type": "application/json"})
            return
        data = stub.picture(self.path)
        self._send(200 if data else 503, data or b"", {"Content-Type": "image/png"})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:
            # Killed while it sent: half a request is none.
            self.close_connection = True
            return
        if self.path == "/_stub":
            self.server.stub.obey(json.loads(body))
            self._send(200, b"{}", {})
            return
        stub = self.server.stub
        number = stub.next_number()
        try:
            request = self._read(number, body)
            if request is None:
                self._send(404, b"no such path", {})
                return
            answer = stub.decide(request)
            stub.wait(stub.latency_s)
            self._give(answer)
        finally:
            stub.ended()

    def _read(self, number: int, body: bytes) -> StubRequest | None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        facts: dict[str, Any] = {"number": number, "path": self.path, "headers": headers}
        facts["attempt_id"] = headers.get(ATTEMPT_HEADER, "")
        if match := stub_gemini.PATH.match(self.path):
            document = json.loads(body)
            prompt, references, ratio = stub_gemini.read_body(document)
            facts |= {"protocol": "gemini", "model": match["model"], "body": document}
            size = ratio.pixels(self.server.stub.long_edge_px)
        elif stub_openai.PATH.match(self.path):
            fields, references, names = stub_openai.read_body(headers.get("content-type", ""), body)
            prompt, document = fields["prompt"], {**fields, "file_fields": names}
            facts |= {"protocol": "openai", "model": fields.get("model", ""), "body": document}
            size = self._small(stub_openai.size_of(fields.get("size", "")))
        else:
            return None
        return StubRequest(prompt=prompt, references=references, size=size, **facts)

    def _small(self, size: tuple[int, int]) -> tuple[int, int]:
        scale = self.server.stub.long_edge_px / max(size)
        return round(size[0] * scale), round(size[1] * scale)

    def _give(self, answer: StubAnswer) -> None:
        if answer.wire == "never":
            self.server.stub.wait(None)
        if answer.wire in {"never", "drop"}:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._send(answer.status, answer.body, answer.headers, half=answer.wire == "partial")

    def _send(
        self, status: int, body: bytes, headers: Mapping[str, str], *, half: bool = False
    ) -> None:
        self.send_response(status, "Answer")
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if half else body)
        if half:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing; `counts` tells what happened."""


def _mix_of(text: str) -> dict[str, float]:
    pairs = (part.partition("=") for part in text.split(",") if part)
    return {name: float(share) for name, _, share in pairs}


def main(arguments: list[str] | None = None) -> None:
    """Serve until a signal comes; the address is the only line printed."""
    parser = argparse.ArgumentParser(description="A stand-in for Gemini and OpenAI.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-s", type=float, default=0.0)
    parser.add_argument("--mix", type=_mix_of, default={}, help="name=share,name=share")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--long-edge-px", type=int, default=64)
    options = vars(parser.parse_args(arguments))
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    with ProviderStub(**options, keep=False) as stub:
        print(stub.url, flush=True)  # noqa: T201 - what whoever started it waits for
        over.wait()


if __name__ == "__main__":
    main()
