"""References over TLS: names and certificates are checked, whatever address is dialled."""

import asyncio
import datetime as dt
import ssl
from ipaddress import ip_network

import pytest
import trustme

from assetgen_pipeline.adapters import address_guard, http_reference_fetcher
from assetgen_pipeline.domain.errors import ReferenceBlocked, ReferenceUnfetched
from assetgen_pipeline_tests.hostile_server import OK, always, fetch, serve, silence, to


async def test_a_host_without_tls_is_said_to_have_none(trusting):
    async def greet(reader, writer):
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ReferenceUnfetched) as failure:
            await fetch(f"https://127.0.0.1:{port}/", ssl_context=trusting)

    assert str(failure.value) == "no TLS connection"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def tls(authority, *names, **options):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **options).configure_cert(context)
    return context


async def fetch_by_name(server, trusting, *, host="images.example", path="/", **options):
    """Fetch from a server on loopback by a name that leads to it."""
    return await fetch(
        f"https://{host}:{server.port}{path}",
        **options,
        resolver=always("127.0.0.1"),
        ssl_context=trusting,
    )


async def test_tls_checks_the_name_and_not_the_address(authority, trusting):
    async with serve(OK, ssl=tls(authority, "images.example")) as server:
        fetched = await fetch_by_name(server, trusting)

    assert fetched.data == b"PNG"
    assert f"host: images.example:{server.port}\r\n" in server.requests[0].lower()


async def test_an_international_name_is_fetched_by_its_ascii_form(authority, trusting):
    async with serve(OK, ssl=tls(authority, "xn--bcher-kva.example")) as server:
        fetched = await fetch_by_name(server, trusting, host="xn--bcher-kva.example", path="/ä.png")

    assert fetched.data == b"PNG"


async def test_a_redirect_from_https_to_http_is_blocked(authority, trusting):
    async with (
        serve(OK) as plain,
        serve(to(plain.url.encode()), ssl=tls(authority, "images.example")) as server,
    ):
        with pytest.raises(ReferenceBlocked):
            await fetch_by_name(server, trusting)

    assert plain.connections == 0


@pytest.mark.parametrize("same_port", [True, False])
async def test_a_server_outside_leads_nobody_into_a_network_that_is_open_to_files(
    authority, trusting, monkeypatch, same_port
):
    """Here 127.0.0.1 stands for the internet and 127.0.0.2 for an intranet."""
    names = {"outside.example": ["127.0.0.1"], "inside.example": ["127.0.0.2"]}

    async def resolver(host, _port):
        return names[host]

    def as_public(port):
        monkeypatch.setattr(address_guard, "is_public_address", lambda a: str(a) == "127.0.0.1")
        monkeypatch.setattr(http_reference_fetcher, "_HTTPS_PORT", port)

    async def ask(server):
        return await fetch(
            f"https://outside.example:{server.port}/",
            allowed=(ip_network("127.0.0.2/32"),),
            resolver=resolver,
            ssl_context=trusting,
        )

    context = tls(authority, "outside.example", "inside.example")
    async with serve(OK, host="127.0.0.2", ssl=context) as inside:
        target = f"https://inside.example:{inside.port}/".encode()
        port = inside.port if same_port else 0
        async with serve([to(target), to(b"/again"), OK], port=port, ssl=context) as outside:
            as_public(outside.port)
            with pytest.raises(ReferenceBlocked):
                await ask(outside)
            elsewhere = await ask(outside)

    assert elsewhere.data == b"PNG"
    assert (inside.connections, outside.connections) == (0, 3)


@pytest.mark.parametrize("fault", ["wrong name", "expired", "self-signed"])
async def test_a_certificate_that_does_not_hold_gives_nothing(authority, trusting, fault):
    options = {}
    name = "other.example" if fault == "wrong name" else "images.example"
    if fault == "expired":
        options["not_after"] = dt.datetime(2020, 1, 2, tzinfo=dt.UTC)
        options["not_before"] = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    issuer = trustme.CA() if fault == "self-signed" else authority
    async with serve(OK, ssl=tls(issuer, name, **options)) as server:
        with pytest.raises(ReferenceUnfetched) as failure:
            await fetch_by_name(server, trusting)

    assert server.requests == []
    assert str(failure.value) == "the host's certificate is not valid"


async def test_a_handshake_that_never_ends_is_given_up(trusting):
    async with serve(silence) as server:
        with pytest.raises(ReferenceUnfetched) as failure:
            await fetch_by_name(server, trusting, timeout_s=0.3)

    assert failure.value.retryable
