"""Where redirects of reference servers may lead."""

import socket
import struct

import pytest

from assetgen_pipeline.domain.errors import ReferenceBlocked, ReferenceUnfetched
from assetgen_pipeline_tests.hostile_server import (
    KNOWN,
    NOT_MODIFIED,
    OK,
    fetch,
    length,
    serve,
    status,
    to,
)


async def test_where_a_redirect_leads_nobody_is_asked_about_what_is_known():
    tagged = length(b"3", b"PNG", b'ETag: "theirs"\r\n')
    async with serve([to(b"/other.png"), tagged]) as server:
        answer = await fetch(server.url, known=KNOWN)

    assert "If-None-Match" in server.requests[0]
    assert "If-" not in server.requests[1]
    assert not answer.validators
    async with serve([to(b"/other.png"), NOT_MODIFIED]) as server:
        with pytest.raises(ReferenceUnfetched):
            await fetch(server.url, known=KNOWN)


@pytest.mark.parametrize("code", [b"301 Moved", b"302 Found", b"303 Other", b"307 T", b"308 P"])
async def test_a_redirect_is_followed_by_any_code(code):
    async with serve([to(b"/other.png", code), OK]) as server:
        assert (await fetch(server.url)).data == b"PNG"

    assert server.requests[1].startswith("GET /other.png ")


async def test_three_redirects_are_followed_and_a_fourth_is_not():
    async with serve([to(b"/1"), to(b"/2"), to(b"/3"), OK]) as server:
        assert (await fetch(server.url)).data == b"PNG"
    async with serve(to(b"/again")) as server:
        with pytest.raises(ReferenceUnfetched) as failure:
            await fetch(server.url)

    assert server.connections == 4
    assert not failure.value.retryable


async def test_a_redirect_counts_also_from_a_server_that_resets_the_connection_behind_it():
    async with serve(OK) as target:

        async def hang_up(writer):
            # RST instead of FIN: the client's kernel forgets whom it was connected with.
            at_once = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            writer.write(to(target.url.encode()))

        async with serve(hang_up) as server:
            assert (await fetch(server.url)).data == b"PNG"


async def test_a_cookie_is_not_sent_back():
    setting = status(b"302 Found", b"Location: /next\r\nSet-Cookie: session=CANARY; Path=/\r\n")
    async with serve([setting, OK]) as server:
        await fetch(server.url)

    assert "CANARY" not in server.requests[1]


@pytest.mark.parametrize(
    "target",
    [
        b"file:///etc/passwd", b"gopher://127.0.0.1:6379/_INFO", b"http://169.254.169.254/latest/",
        b"http://user:secret@127.0.0.1/", b"http://[::1]:{port}/", b"http://10.0.0.1/", b"//0/",
        b"http://metadata.google.internal/", b"https://8.8.8.8:8443/",
        b"http://127.0.0.1:0/", b"http://127.0.0.1:99999/", b"/a b", b"http:\\\\10.0.0.1/",
        b"gs://test-bucket/packs/a.png", b"http://[::1", b"http://127.1/", b"ftp://127.0.0.1/",
    ],
)  # fmt: skip
async def test_a_redirect_to_where_nobody_may_go_is_blocked(target):
    async with serve(OK) as inside, serve(to(target.replace(b"{port}", b"1"))) as server:
        with pytest.raises(ReferenceBlocked) as refusal:
            await fetch(server.url)

    assert (server.connections, inside.connections) == (1, 0)
    assert refusal.value.code == "reference-blocked"
    assert str(refusal.value) == "not a public address that references may come from"
