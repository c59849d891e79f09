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

import httpcore

from assetgen_pipeline.domain.address_policy import is_public_address
from assetgen_pipeline.domain.errors import ReferenceBlocked
from assetgen_pipeline.domain.reference_url import Address, Network

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port to addresses as text; raises `OSError` where there are none."""

BLOCKED = "not a public address that references may come from"
_DNS_THREADS = 4
_DNS_WAIT_S = 3.0
_DIAL_WAIT_S = 3.0


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

    `public` says whether the public internet is permitted beside the allowed networks.
    """

    def __init__(
        self,
        *,
        resolver: Resolver,
        allowed_networks: Iterable[Network] = (),
        public: bool = True,
        dns_wait_s: float = _DNS_WAIT_S,
        dial_wait_s: float = _DIAL_WAIT_S,
    ) -> None:
        self._resolver = resolver
        self._allowed = tuple(allowed_networks)
        self._public = public
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
            httpcore.ConnectError: no answer, or nobody listens.
            httpcore.ConnectTimeout: no answer in time.
        """
        failure: Exception = httpcore.ConnectError("no address")
        for address in _first_of_each_kind(await self._judged(host, port)):
            try:
                stream = await self._dialler.connect_tcp(
                    str(address), port, timeout=self._dial_wait_s
                )
                return _Connection(stream)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
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
            raise httpcore.ConnectTimeout("no answer for the name") from error
        except UnicodeError as error:
            raise ReferenceBlocked(BLOCKED, code="reference-url-invalid") from error
        except OSError as error:
            raise httpcore.ConnectError("no address for the name") from error
        try:
            addresses = [_unwrapped(ip_address(answer)) for answer in dict.fromkeys(answers)]
        except ValueError as error:
            raise ReferenceBlocked(BLOCKED) from error
        if not all(self._permits(address) for address in addresses):
            raise ReferenceBlocked(BLOCKED)
        return addresses

    def _permits(self, address: Address) -> bool:
        if any(address in network for network in self._allowed):
            return True
        return self._public and is_public_address(address)


class _Connection(httpcore.AsyncNetworkStream):
    """A connection that is closed when its TLS handshake is cut short by the deadline.

    httpcore 1.0.9 closes it on an error, but leaves it open on a cancellation.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

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
            return await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except asyncio.CancelledError:
            await self._stream.aclose()
            raise

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's signature
        return self._stream.get_extra_info(info)


def _unwrapped(address: Address) -> Address:
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _first_of_each_kind(addresses: Sequence[Address]) -> list[Address]:
    """At most two addresses, of both IP versions where both are there.

    Two, so that 200 dead records cannot hold a worker; of both, so that a host without
    an IPv6 route still gets through.
    """
    firsts = addresses[:1]
    others = [address for address in addresses[1:] if address.version != firsts[0].version]
    return [*firsts, *(others or addresses[1:])[:1]]
