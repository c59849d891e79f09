"""Fetching references from strangers' servers, within one deadline and one size.

httpcore is used without httpx's client on purpose: cookies, proxies, `.netrc`, redirects
and logging of whole URLs live there, and none of them may happen here. Connections go
through `address_guard`; decoding what came is `pillow_images`' business.
"""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

import anyio
import httpcore
import httpx

from assetgen_pipeline.adapters.address_guard import (
    BLOCKED,
    AddressGuard,
    NotConnected,
    Resolver,
    SystemResolver,
    unwrapped,
)
from assetgen_pipeline.domain.errors import ReferenceBlocked, ReferenceUnfetched
from assetgen_pipeline.domain.reference_url import Network, check_reference_url
from assetgen_pipeline.domain.references import FetchedBytes, NotModified, Validators
from assetgen_pipeline.ports.references import ReferenceFetcher

_MIB = 1024 * 1024
_MAX_REDIRECTS = 3
_MAX_RETRY_AFTER_S = 86_400.0
_HTTPS_PORT = 443
_OK = 200
_NOT_MODIFIED = 304
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRYABLE = frozenset({408, 429})
_SERVER_ERROR = 500
# A timeout is an OSError, and so is what TLS makes of a torn record.
_BROKEN = (
    OSError,
    anyio.EndOfStream,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
)
_HEADERS = {
    "User-Agent": "assetgen-pipeline (reference fetcher)",
    "Accept": "image/png, image/jpeg, image/webp",
    "Accept-Encoding": "identity",
    "Connection": "close",
}
_UNTYPED = frozenset({"", "application/octet-stream", "binary/octet-stream"})


@dataclass(frozen=True, slots=True)
class _Redirect:
    """Where a server sends us, and whether it stands in a network that an operator opened."""

    location: str
    from_inside: bool


class HttpReferenceFetcher(ReferenceFetcher):
    """Fetches over https from public addresses; allowed networks may use http and any port."""

    def __init__(
        self,
        *,
        timeout_s: float = 10.0,
        max_bytes: int = 20 * _MIB,
        allowed_networks: Sequence[Network] = (),
        own_endpoint: str = "",
        resolver: Resolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """`resolver` and `ssl_context` stand in for the system's in tests.

        `own_endpoint` is an emulator of our bucket, which asks nobody who they are: it is
        never dialled, whatever the allowed networks.
        """
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._allowed = tuple(allowed_networks)
        self._system = SystemResolver()
        chosen = resolver or self._system
        self._anywhere, self._inside, self._outside = (
            AddressGuard(
                resolver=chosen,
                allowed_networks=networks,
                public=public,
                own_endpoint=own_endpoint,
            )
            for networks, public in ((self._allowed, True), (self._allowed, False), ((), True))
        )
        self._ssl_context = ssl_context or httpx.create_ssl_context(trust_env=False)

    async def fetch(
        self, url: str, *, known: Validators | None = None
    ) -> FetchedBytes | NotModified:
        """Fetch one URL anonymously, under one deadline for look-up, redirects and body.

        `known` is asked about at the URL itself, never where it redirects to.

        Raises:
            ReferenceBlocked: policy refuses the URL, an address behind it, or a redirect.
            ReferenceUnfetched: anything else that gave no bytes; says whether to retry.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._follow(self._checked(url), known or Validators())
        except _BROKEN as error:
            raise ReferenceUnfetched(self._why(error), retryable=True) from error

    async def aclose(self) -> None:
        """Let the look-up threads end; connections never outlive a fetch."""
        self._system.close()

    def _why(self, error: Exception) -> str:
        """What went wrong on the way, in our words: a library's may name an address."""
        match error:
            case NotConnected():
                return str(error)
            case TimeoutError() | httpcore.TimeoutException():
                return f"no answer within {self._timeout_s:g} s"
            case httpcore.ProtocolError():
                return "the answer is cut short, or not HTTP"
            case _:
                return "the connection broke"

    async def _follow(self, url: httpx.URL, known: Validators) -> FetchedBytes | NotModified:
        answer = await self._get(url, known, self._guard_for(url))
        for _ in range(_MAX_REDIRECTS):
            if not isinstance(answer, _Redirect):
                return answer
            url = self._redirected(url, answer.location)
            guard = self._guard_for(url) if answer.from_inside else self._guard_outside(url)
            answer = await self._get(url, Validators(), guard)
            if isinstance(answer, FetchedBytes):
                # What identifies these bytes was not said by the server that was asked.
                answer = replace(answer, validators=Validators())
        if not isinstance(answer, _Redirect):
            return answer
        raise ReferenceUnfetched("too many redirects")

    def _redirected(self, url: httpx.URL, location: str) -> httpx.URL:
        target = _joined(url, location)
        if url.scheme == "https" and target.scheme != "https":
            raise ReferenceBlocked(BLOCKED)
        try:
            return self._checked(str(target))
        except ReferenceBlocked as error:
            # Whatever is wrong with it: what a file may name is told, what a server names is not.
            raise ReferenceBlocked(BLOCKED) from error

    def _checked(self, text: str) -> httpx.URL:
        """A web address that passes the lint and that two parsers read alike."""
        check_reference_url(text, allowed_networks=self._allowed, own_bucket="", owner="")
        try:
            url, other = httpx.URL(text), urlsplit(text)
            alike = url.raw_host.decode() == other.hostname and url.port in _ports(other)
        except (httpx.InvalidURL, ValueError) as error:
            raise ReferenceBlocked(BLOCKED, code="reference-url-invalid") from error
        if not alike:
            raise ReferenceBlocked(BLOCKED, code="reference-url-invalid")
        return url

    async def _get(
        self, url: httpx.URL, known: Validators, guard: AddressGuard
    ) -> "FetchedBytes | NotModified | _Redirect":
        """The bytes of a URL, or where it redirects to."""
        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=self._ssl_context, network_backend=guard
            ) as connections,
            connections.stream(
                "GET",
                httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=[("Host", url.netloc), *_HEADERS.items(), *_conditions(known)],
            ) as response,
        ):
            headers = httpx.Headers(response.headers)
            if response.status in _REDIRECTS and "location" in headers:
                return _Redirect(headers["location"], from_inside=self._is_inside(response))
            if response.status == _NOT_MODIFIED and known:
                return NotModified()
            self._check_head(response.status, headers)
            return FetchedBytes(
                data=await self._body(response),
                content_type=headers.get("content-type", ""),
                validators=Validators(
                    etag=headers.get("etag", ""), last_modified=headers.get("last-modified", "")
                ),
            )

    def _guard_for(self, url: httpx.URL) -> AddressGuard:
        if url.scheme == "https" and url.port in (None, _HTTPS_PORT):
            return self._anywhere
        return self._inside

    def _guard_outside(self, url: httpx.URL) -> AddressGuard:
        """The guard for where a stranger's server redirects to.

        What an operator opened is open to those who write files, who name it themselves; a server
        outside must not lead us in.
        """
        if self._guard_for(url) is self._inside:
            raise ReferenceBlocked(BLOCKED)
        return self._outside

    def _is_inside(self, response: httpcore.Response) -> bool:
        """Whether an answer came from a network that an operator opened."""
        peer = response.extensions["network_stream"].get_extra_info("server_addr")[0]
        return any(unwrapped(ip_address(peer)) in network for network in self._allowed)

    def _check_head(self, status: int, headers: httpx.Headers) -> None:
        answered = f"the server answered {status}"
        if status in _RETRYABLE or status >= _SERVER_ERROR:
            raise ReferenceUnfetched(
                answered, retryable=True, retry_after_s=_retry_after_s(headers)
            )
        if status != _OK:
            raise ReferenceUnfetched(answered)
        # Decompressing is how 64 KiB become 64 MiB in one call; we asked for neither.
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise ReferenceUnfetched("the server sent it compressed")
        # Servers mistake one image type for another, and the decoder decides; a page is no image.
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if not kind.startswith("image/") and kind not in _UNTYPED:
            raise ReferenceUnfetched("the server says that it is no image", code="reference-type")
        # The parser has refused lengths that are no number.
        if int(headers.get("content-length", "0")) > self._max_bytes:
            raise self._too_large()

    async def _body(self, response: httpcore.Response) -> bytes:
        data = bytearray()
        async for part in response.aiter_stream():
            data += part
            if len(data) > self._max_bytes:
                raise self._too_large()
        return bytes(data)

    def _too_large(self) -> ReferenceUnfetched:
        message = f"larger than {self._max_bytes} bytes"
        return ReferenceUnfetched(message, code="reference-too-large")


def _ports(parts: SplitResult) -> tuple[int | None, ...]:
    """How httpx may keep the port: left out where it is the scheme's own."""
    own = {"http": 80, "https": _HTTPS_PORT}[parts.scheme]
    return (None, own) if parts.port in (None, own) else (parts.port,)


def _joined(url: httpx.URL, location: str) -> httpx.URL:
    # Looked at before joining, because joining quotes what must not be there.
    if "\\" in location or any(char.isspace() or not char.isprintable() for char in location):
        raise ReferenceBlocked(BLOCKED)
    try:
        return url.join(location)
    except (httpx.InvalidURL, ValueError) as error:
        raise ReferenceBlocked(BLOCKED) from error


def _conditions(known: Validators) -> list[tuple[str, str]]:
    headers = (("If-None-Match", known.etag), ("If-Modified-Since", known.last_modified))
    return [(name, value) for name, value in headers if value]


def _retry_after_s(headers: httpx.Headers) -> float | None:
    """Seconds to wait, where the server names them or a time by its own clock."""
    text = headers.get("retry-after", "")
    try:
        seconds = float(int(text)) if text.lstrip("-").isdigit() else _until(text, headers)
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_S)


def _until(text: str, headers: httpx.Headers) -> float:
    wanted, now = (parsedate_to_datetime(date) for date in (text, headers.get("date", "")))
    return (wanted - now).total_seconds()
