"""URLs that are meant to lead inside: refused before anybody is dialled."""

import asyncio
from ipaddress import ip_network
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from assetgen_pipeline.adapters import http_reference_fetcher
from assetgen_pipeline.domain.errors import ReferenceBlocked, ReferenceUnfetched
from assetgen_pipeline_tests.hostile_server import LIST_B, LOOPBACK, OK, always, fetch, serve, to


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.0.0.2", "[::ffff:127.0.0.1]", "fake.example"]
)
async def test_the_emulator_is_never_asked_though_its_network_is_allowed(host):
    async with serve(OK) as server, serve(to(server.url.encode())) as stranger:
        for url in (f"http://{host}:{server.port}/", stranger.url):
            with pytest.raises(ReferenceBlocked):
                await fetch(
                    url,
                    own_endpoint=f"http://127.0.0.1:{server.port}",
                    resolver=_mostly_literal,
                )

    assert server.connections == 0


async def _mostly_literal(host, port):
    return ["127.0.0.1" if host in {"localhost", "fake.example"} else host]


@pytest.mark.parametrize("url", LIST_B)
@pytest.mark.parametrize("scheme", ["http:", "https:"])
async def test_a_hostile_url_is_refused_and_nobody_is_dialled(url, scheme):
    async def loopback(host, port):
        return ["127.0.0.1"]

    hostile = url.replace("http:", scheme, 1)
    async with serve(OK) as server:
        # The listener's port is where a leak of port 443 or 80 would not show: ask for it too.
        for text in (hostile, _with_port(hostile, server.port)):
            with pytest.raises(ReferenceBlocked) as refusal:
                await fetch(text, allowed=(), resolver=loopback)
            assert refusal.value.code in {
                "reference-url-invalid", "reference-blocked", "reference-not-permitted",
            }  # fmt: skip

    assert server.connections == 0


def _with_port(url, port):
    head, slash, rest = url.partition("://")
    host, end, path = rest.partition("/")
    return f"{head}{slash}{host}:{port}{end}{path}" if end else url


@pytest.mark.parametrize(
    "url", ["https://127。0。0。1/", "https://example.com:80:80/", "https://exa\tmple.com/"]
)
async def test_a_url_that_two_parsers_read_differently_is_refused_even_past_the_lint(
    url, monkeypatch
):
    monkeypatch.setattr(http_reference_fetcher, "check_reference_url", lambda *_, **__: None)

    with pytest.raises(ReferenceBlocked) as refusal:
        await fetch(url, resolver=always("8.8.8.8"))

    assert refusal.value.code == "reference-url-invalid"


LIKE_A_URL = st.builds(
    "".join,
    st.lists(
        st.sampled_from(
            ["https://", "http://", "//", "/", ":", "@", "#", "?", "\\", ".", "%", "[", "]", "%2f", "%00",
             "127.0.0.1", "example.com", "localhost", "xn--", "::1", "80", "443", "8443", "0", "0x7f", "a",
             "\t", "\n", " ", "\u3002", "\u200b", "\u2460", "\u00e4", "\u0130", "\u2100", "\uff0f", "\x00", "-", "_", "~", ";"]
        )
        | st.characters(),
        max_size=12,
    ),
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(
    st.text()
    | LIKE_A_URL
    | LIKE_A_URL.map("https://".__add__)
    | st.from_regex(r"https?://[^/]{1,20}/?")
)
@example("https://a.example/x")
@example("https://127\u30020\u30020\u30021/")
@example("https://example.com:80:80/")
@example("https://exa\tmple.com/")
@example("https://a.example\\@b.example/")
def test_any_text_is_refused_or_read_alike_by_two_parsers(text):
    asked = []

    async def resolver(host, port):
        asked.append((host, port))
        raise OSError

    with pytest.raises((ReferenceBlocked, ReferenceUnfetched)) as end:
        asyncio.run(
            fetch(text, allowed=(ip_network("0.0.0.0/0"), ip_network("::/0")), resolver=resolver)
        )

    if isinstance(end.value, ReferenceBlocked):
        assert asked == []
        assert end.value.code in {
            "reference-url-invalid", "reference-blocked", "reference-not-permitted",
        }  # fmt: skip
    else:
        [(host, port)] = asked
        standard, other = urlsplit(text), httpx.URL(text)
        own = {"http": 80, "https": 443}[standard.scheme]
        assert host == standard.hostname == other.raw_host.decode()
        assert port == (standard.port or own) == (other.port or own)


async def test_hostile_urls_do_not_leak_where_an_intranet_is_allowed():
    intranet = (ip_network("10.0.0.0/8"),)
    async with serve(OK) as server:
        for url in LIST_B:
            with pytest.raises((ReferenceBlocked, ReferenceUnfetched)):
                await fetch(
                    _with_port(url, server.port),
                    allowed=intranet,
                    resolver=always("127.0.0.1"),
                )

    assert server.connections == 0


@pytest.mark.parametrize("url", ["http://images.example/", "https://images.example:8443/"])
async def test_plain_http_and_other_ports_are_for_allowed_networks_only(url):
    for allowed in ((), LOOPBACK):
        with pytest.raises(ReferenceBlocked):
            await fetch(url, allowed=allowed, resolver=always("8.8.8.8"))
