import asyncio
import socket
from contextlib import asynccontextmanager
from ipaddress import ip_network

import httpcore
import pytest

from assetgen_pipeline.adapters.address_guard import AddressGuard, NotConnected, SystemResolver
from assetgen_pipeline.domain.errors import ReferenceBlocked

LOOPBACK = (ip_network("127.0.0.0/8"),)


class StubResolver:
    """Answers each look-up in turn; the last answer repeats."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def __call__(self, host, port):
        self.asked.append((host, port))
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class RecordingDialler(httpcore.AsyncNetworkBackend):
    """Dials nobody; `ok` is the address that would answer."""

    def __init__(self, ok=None):
        self.dialled = []
        self.ok = ok

    async def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):  # noqa: ASYNC109
        self.dialled.append(host)
        if host != self.ok:
            raise httpcore.ConnectTimeout
        return httpcore.AsyncNetworkStream()


@asynccontextmanager
async def listener():
    """A port that counts who connects."""
    peers = []

    async def accept(reader, writer):
        peers.append(writer.get_extra_info("peername"))
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], peers
        # Let a connection that should not be there be counted.
        await asyncio.sleep(0.01)


def guard_with(resolver, *, ok=None, **options):
    guard = AddressGuard(resolver=resolver, **options)
    guard._dialler = RecordingDialler(ok)
    return guard, guard._dialler


async def test_the_address_that_was_judged_is_the_one_dialled():
    resolver = StubResolver(["8.8.8.8"])
    guard, dialler = guard_with(resolver, ok="8.8.8.8")

    await guard.connect_tcp("images.example", 443)

    assert dialler.dialled == ["8.8.8.8"]
    assert resolver.asked == [("images.example", 443)]


async def test_a_name_that_changes_its_mind_is_refused_the_second_time():
    guard, dialler = guard_with(StubResolver(["8.8.8.8"], ["127.0.0.1"]), ok="8.8.8.8")
    await guard.connect_tcp("rebind.example", 443)

    with pytest.raises(ReferenceBlocked):
        await guard.connect_tcp("rebind.example", 443)

    assert dialler.dialled == ["8.8.8.8"]


@pytest.mark.parametrize(
    "answers",
    [
        ["8.8.8.8", "10.0.0.1"],
        ["10.0.0.1", "8.8.8.8"],
        ["8.8.8.8", "fe80::1%eth0"],
        ["8.8.8.8", "not an address"],
        ["::ffff:127.0.0.1"],
    ],
)
async def test_one_bad_answer_refuses_all(answers):
    guard, dialler = guard_with(StubResolver(answers))

    with pytest.raises(ReferenceBlocked):
        await guard.connect_tcp("mixed.example", 443)

    assert dialler.dialled == []


async def test_two_hundred_dead_addresses_cost_two():
    answers = [f"8.8.4.{number}" for number in range(100)] + ["2606:4700::1", "2606:4700::2"]
    guard, dialler = guard_with(StubResolver(answers))

    with pytest.raises(NotConnected, match="the host does not answer"):
        await guard.connect_tcp("dead.example", 443)

    assert dialler.dialled == ["8.8.4.0", "2606:4700::1"]


async def test_the_second_address_is_tried_where_the_first_is_dead():
    guard, dialler = guard_with(StubResolver(["8.8.8.8", "8.8.4.4", "8.8.8.8"]), ok="8.8.4.4")

    await guard.connect_tcp("images.example", 443)

    assert dialler.dialled == ["8.8.8.8", "8.8.4.4"]


async def test_a_look_up_that_sleeps_is_given_up():
    async def sleeper(host, port):
        await asyncio.sleep(30)

    guard, _ = guard_with(sleeper, dns_wait_s=0.02)

    with pytest.raises(NotConnected, match="the look-up of the host took too long"):
        await guard.connect_tcp("slow.example", 443)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ([], "the host has no address"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "the host does not exist"),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), "the host could not be looked up"),
        (OSError("SERVFAIL"), "the host could not be looked up"),
    ],
)
async def test_a_name_without_addresses_is_not_connected_and_says_why(answer, why):
    guard, _ = guard_with(StubResolver(answer))

    with pytest.raises(NotConnected, match=why):
        await guard.connect_tcp("nowhere.example", 443)


async def test_a_name_that_cannot_be_written_is_refused():
    guard, _ = guard_with(StubResolver(UnicodeError("label too long")))

    with pytest.raises(ReferenceBlocked) as refusal:
        await guard.connect_tcp("x" * 64 + ".example", 443)

    assert refusal.value.code == "reference-url-invalid"


async def test_an_allowed_network_is_reached_and_its_neighbours_are_not():
    async with listener() as (port, peers):
        guard = AddressGuard(resolver=SystemResolver(), allowed_networks=LOOPBACK)
        stream = await guard.connect_tcp("127.0.0.1", port)
        await stream.aclose()
        mapped = await guard.connect_tcp("::ffff:127.0.0.1", port)
        await mapped.aclose()

        with pytest.raises(ReferenceBlocked):
            await guard.connect_tcp("::1", port)
        while len(peers) < 2:  # noqa: ASYNC110 - they come in by themselves
            await asyncio.sleep(0.01)

    assert len(peers) == 2


async def test_the_public_internet_is_out_of_reach_where_only_allowed_networks_are_permitted():
    guard, dialler = guard_with(StubResolver(["8.8.8.8"]), allowed_networks=LOOPBACK, public=False)

    with pytest.raises(ReferenceBlocked):
        await guard.connect_tcp("images.example", 8080)

    assert dialler.dialled == []


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "2130706433", "0x7f000001", "017700000001", "0177.0.0.1", "0x7f.1",
        "127.1", "127.0.1", "0", "::", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::127.0.0.1",
    ],
)  # fmt: skip
async def test_loopback_in_any_spelling_is_never_connected(host):
    resolver = SystemResolver()
    async with listener() as (port, peers):
        with pytest.raises((ReferenceBlocked, NotConnected)):
            await AddressGuard(resolver=resolver).connect_tcp(host, port)
    resolver.close()

    assert peers == []


async def test_unix_sockets_are_refused():
    with pytest.raises(ReferenceBlocked):
        await AddressGuard(resolver=StubResolver([])).connect_unix_socket("/var/run/docker.sock")


async def test_waiting_is_the_event_loops():
    await AddressGuard(resolver=StubResolver([])).sleep(0)
