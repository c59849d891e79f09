"""Connections to public addresses only: the address that was judged is the one dialled.

Looks a name up once, judges every answer and dials one of them, under httpcore's public
seam, so that TLS still checks the name. What counts as public is in
`domain/address_policy.py`; which URLs may be asked for at all is the fetcher's business.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit

import httpcore

from assetgen_pipeline.domain.address_policy import is_public_address
from assetgen_pipeline.domain.errors import ReferenceBlocked
from assetgen_pipeline.domain.reference_url import Address, Network

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port to addresses as text; raises `OSError` where there are none."""

BLOCKED = "not a public address that references may come from"
# More than the fetches at once, because a look-up that was given up keeps its thread.
_DNS_THREADS = 16
_DNS_WAIT_S = 3.0
_DIAL_WAIT_S = 3.0
_PORTS = {"http": 80, "https": 443}
_NO_SUCH_NAME = (socket.EAI_NONAME, socket.EAI_NODATA)


class NotConnected(httpcore.ConnectError):
    """No connection to a permitted address; the text says why in words that may be shown."""


class SystemResolver:
    """The system's name lookup in threads of its own, so that dead names hold up nothing else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_DNS_THREADS, thread_name_prefix="reference-dns")

    async def __call__(self, host: str, port: int) -> list[str]:
        """Every address of a host.

        Raises:
            OSError: the name is not known, or nobody answers for it.
        """
        answers = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(answer[4][0]) for answer in answers]

    def close(self) -> None:
        """Let the threads end, without waiting for a look-up under way."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class AddressGuard(httpcore.AsyncNetworkBackend):
    """A network backend that connects to permitted addresses and to nothing else.

    `public` says whether the public internet is permitted beside the allowed networks;
    `own_endpoint` is a server of ours that is never dialled.
    """

    def __init__(
        self,
        *,
        resolver: Resolver,
        allowed_networks: Iterable[Network] = (),
        public: bool = True,
        own_endpoint: str = "",
        dns_wait_s: float = _DNS_WAIT_S,
        dial_wait_s: float = _DIAL_WAIT_S,
    ) -> None:
        self._resolver = resolver
        self._allowed = tuple(allowed_networks)
        self._public = public
        self._own_endpoint = own_endpoint
        self._dns_wait_s = dns_wait_s
        self._dial_wait_s = dial_wait_s
        self._dialler = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - httpcore's signature
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        """Look the host up once, judge every answer, and dial at most two of them.

        Raises:
            ReferenceBlocked: an answer is not permitted, however good the others are.
            NotConnected: no answer, or nobody listens.
        """
        failure: Exception = NotConnected("the host has no address")
        for address in _first_of_each_kind(await self._judged(host, port)):
            try:
                stream = await self._dialler.connect_tcp(
                    str(address), port, timeout=self._dial_wait_s
                )
                return _Connection(stream, peer=(str(address), port))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = NotConnected(_why_not_dialled(error))
        raise failure

    async def connect_unix_socket(
        self,
        path: str,  # noqa: ARG002
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        """Refuse.

        Raises:
            ReferenceBlocked: always.
        """
        raise ReferenceBlocked(BLOCKED)

    async def sleep(self, seconds: float) -> None:
        """Wait; httpcore asks for it between its own retries, which are off."""
        await asyncio.sleep(seconds)

    async def _judged(self, host: str, port: int) -> list[Address]:
        try:
            async with asyncio.timeout(self._dns_wait_s):
                answers = await self._resolver(host, port)
        except TimeoutError as error:
            raise NotConnected("the look-up of the host took too long") from error
        except UnicodeError as error:
            raise ReferenceBlocked(BLOCKED, code="reference-url-invalid") from error
        except OSError as error:
            unknown = isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME
            why = "the host does not exist" if unknown else "the host could not be looked up"
            raise NotConnected(why) from error
        try:
            addresses = [unwrapped(ip_address(answer)) for answer in dict.fromkeys(answers)]
        except ValueError as error:
            raise ReferenceBlocked(BLOCKED) from error
        if not all(self._permits(address) for address in addresses):
            raise ReferenceBlocked(BLOCKED)
        if await self._is_own(port, addresses):
            raise ReferenceBlocked(BLOCKED)
        return addresses

    async def _is_own(self, port: int, addresses: Sequence[Address]) -> bool:
        """Whether this is our endpoint, or might be: a server may listen on all of loopback."""
        own = urlsplit(self._own_endpoint)
        if not own.hostname or port != (own.port or _PORTS.get(own.scheme)):
            return False
        answers = await self._resolver(own.hostname, port)
        ours = [unwrapped(ip_address(answer)) for answer in answers]
        local = any(address.is_loopback for address in ours)
        return any(address in ours or (local and address.is_loopback) for address in addresses)

    def _permits(self, address: Address) -> bool:
        if any(address in network for network in self._allowed):
            return True
        return self._public and is_public_address(address)


class _Connection(httpcore.AsyncNetworkStream):
    """A connection that knows whom it dialled, also once the other side has reset it."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, *, peer: tuple[str, int]) -> None:
        self._stream = stream
        self._peer = peer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        try:
            stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except asyncio.CancelledError:
            # httpcore 1.0.9 closes a connection whose handshake fails, not one that is cut short.
            await self._stream.aclose()
            raise
        except httpcore.ConnectError as error:
            invalid = _is_caused_by(error, ssl.SSLCertVerificationError)
            why = "the host's certificate is not valid" if invalid else "no TLS connection"
            raise NotConnected(why) from error
        return _Connection(stream, peer=self._peer)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's signature
        return self._peer if info == "server_addr" else self._stream.get_extra_info(info)


def unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 one is mapped from, else the address itself."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _why_not_dialled(error: Exception) -> str:
    if isinstance(error, httpcore.ConnectTimeout):
        return "the host does not answer"
    refused = _is_caused_by(error, ConnectionRefusedError)
    return "the host refuses the connection" if refused else "the host cannot be reached"


def _is_caused_by(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None and not isinstance(error, kind):
        error = error.__cause__
    return error is not None


def _first_of_each_kind(addresses: Sequence[Address]) -> list[Address]:
    """At most two addresses, of both IP versions where both are there.

    Two, so that 200 dead records cannot hold a worker; of both, so that a host without
    an IPv6 route still gets through.
    """
    firsts = addresses[:1]
    others = [address for address in addresses[1:] if address.version != firsts[0].version]
    return [*firsts, *(others or addresses[1:])[:1]]
