"""The only way to a paid API: one request per attempt, to one origin, with our headers.

Vendors' SDKs retry, follow redirects, switch transports and take headers, hosts and proxies
from the environment. Whatever they try, what leaves is decided here, beneath them.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import httpx2

from assetgen_pipeline.domain.budget import AttemptToken

ATTEMPT_HEADER = "X-Client-Request-Id"
MAX_ANSWER_BYTES = 128 * 1024 * 1024
_CONNECT_WAIT_S = 10.0
# Below what servers keep idle connections for (5 s in uvicorn): a connection that the server
# closes while we send makes an outcome unknown, and an unknown outcome is assumed paid.
_KEEP_ALIVE_S = 2.0
_KEPT_HEADERS = frozenset(
    {
        *("content-type", "content-length", "accept", "user-agent"),
        *("authorization", "x-goog-api-key", "x-goog-user-project", "x-server-timeout"),
    }
)
# What they say of the bytes on the wire is no longer true of those that are handed on.
_OF_BYTES = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class WireRefused(httpx2.TransportError):
    """A second request for one attempt, or an answer of absurd size."""


@dataclass(slots=True)
class Attempt:
    """What is known of one attempt's request."""

    token: AttemptToken
    requests: int = 0
    sent: bool = False
    """Whether the body began to leave: before that, no server can have acted on it."""
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    too_large: bool = False


_attempt: ContextVar[Attempt | None] = ContextVar("paid_attempt", default=None)


class PaidWire(httpx2.AsyncBaseTransport):
    """A transport that sends within `attempt(token)` only, once per token."""

    def __init__(
        self,
        inner: httpx2.AsyncBaseTransport,
        *,
        endpoint: str,
        timeout_s: float,
        own_headers: Mapping[str, str] | None = None,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        """`own_headers` go over whatever the SDK makes of them."""
        self._inner = inner
        self._origin = httpx2.URL(endpoint)
        self._timeout_s = timeout_s
        self._own_headers = dict(own_headers or {})
        self._max_answer_bytes = max_answer_bytes
        self._used: set[str] = set()

    @contextmanager
    def attempt(self, token: AttemptToken) -> Iterator[Attempt]:
        """Let the request of this attempt through, and learn what became of it.

        Raises:
            TypeError: not a token that a ledger's intent made, or one that was used before.
        """
        if not isinstance(token, AttemptToken):
            message = "a paid request needs the token of a ledger's intent"
            raise TypeError(message)
        if token.attempt_id in self._used:
            message = "this attempt has already had its request"
            raise TypeError(message)
        self._used.add(token.attempt_id)
        attempt = Attempt(token)
        reset = _attempt.set(attempt)
        try:
            yield attempt
        finally:
            _attempt.reset(reset)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the attempt's one request.

        Raises:
            TypeError: outside any attempt.
            WireRefused: the attempt has had its request.
        """
        attempt = _attempt.get()
        if attempt is None:
            message = "nothing is sent to a paid API outside an attempt"
            raise TypeError(message)
        attempt.requests += 1
        if attempt.requests > 1:
            raise WireRefused("one attempt is one request")
        response = await self._inner.handle_async_request(self._ours(request, attempt))
        attempt.status = response.status_code
        attempt.headers = {name.lower(): value for name, value in response.headers.items()}
        return httpx2.Response(
            status_code=response.status_code,
            headers=[
                (n, v) for n, v in response.headers.multi_items() if n.lower() not in _OF_BYTES
            ],
            stream=_Capped(response, attempt, most=self._max_answer_bytes),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    def _ours(self, request: httpx2.Request, attempt: Attempt) -> httpx2.Request:
        origin = self._origin
        url = request.url.copy_with(scheme=origin.scheme, host=origin.host, port=origin.port)
        headers = {n: v for n, v in request.headers.items() if n.lower() in _KEPT_HEADERS}
        for name, value in self._own_headers.items():
            headers[name.lower()] = value
        headers["host"] = url.netloc.decode("ascii")
        headers["accept-encoding"] = "identity"
        headers[ATTEMPT_HEADER.lower()] = attempt.token.attempt_id
        return httpx2.Request(
            request.method,
            url,
            headers=headers,
            stream=request.stream,
            extensions={"timeout": self._timeouts(), "trace": _tracing(attempt)},
        )

    def _timeouts(self) -> dict[str, float]:
        waits = dict.fromkeys(("read", "write", "pool"), self._timeout_s)
        # Over before the attempt's deadline is: httpcore2 closes a connection whose handshake
        # fails, but not one whose handshake is cancelled.
        return {"connect": min(_CONNECT_WAIT_S, self._timeout_s / 2), **waits}


def open_wire(
    endpoint: str, *, timeout_s: float, own_headers: Mapping[str, str] | None = None
) -> tuple[PaidWire, httpx2.AsyncClient]:
    """A wire and the client around it; closing the client closes both."""
    transport = httpx2.AsyncHTTPTransport(
        trust_env=False,
        limits=httpx2.Limits(max_connections=None, keepalive_expiry=_KEEP_ALIVE_S),
    )
    wire = PaidWire(transport, endpoint=endpoint, timeout_s=timeout_s, own_headers=own_headers)
    client = httpx2.AsyncClient(transport=wire, trust_env=False, follow_redirects=False)
    return wire, client


def _tracing(attempt: Attempt) -> Any:  # noqa: ANN401 - httpcore2's extension is not typed
    async def trace(event: str, _info: Mapping[str, Any]) -> None:
        if event.endswith("send_request_body.started"):
            attempt.sent = True

    return trace


class _Capped(httpx2.AsyncByteStream):
    """An answer's body, cut off where no image can be that large.

    What comes compressed against our wish is inflated here, piece by piece: the bytes that
    count are those that memory would hold.
    """

    def __init__(self, answer: httpx2.Response, attempt: Attempt, *, most: int) -> None:
        self._answer = answer
        self._attempt = attempt
        self._most = most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async with aclosing(self._answer.aiter_bytes()) as parts:
            async for part in parts:
                size += len(part)
                if size > self._most:
                    self._attempt.too_large = True
                    raise WireRefused("the answer is too large")
                yield part

    async def aclose(self) -> None:
        await self._answer.aclose()
