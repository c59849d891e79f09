"""What is asked of reference servers, and what a stranger can answer: for real, on loopback, and bounded."""

import asyncio
import socket
from ipaddress import ip_network

import pytest

from assetgen_pipeline.domain.errors import ReferenceUnfetched
from assetgen_pipeline.domain.references import NotModified
from assetgen_pipeline_tests.hostile_server import (
    CHUNKED,
    ENDLESS,
    KNOWN,
    LOOPBACK,
    NOT_MODIFIED,
    OK,
    drip,
    fetch,
    flood,
    length,
    reset,
    serve,
    silence,
    status,
)
from assetgen_pipeline_tests.ports import refusing_port


async def test_an_image_is_fetched_as_it_is():
    async with serve(OK) as server:
        fetched = await fetch(server.url)

    assert (fetched.data, fetched.content_type) == (b"PNG", "image/png")


async def test_the_request_carries_nothing_but_what_it_needs():
    async with serve(OK) as server:
        await fetch(server.url)

    lines = server.requests[0].strip().lower().split("\r\n")
    assert lines[0] == "get /image.png http/1.1"
    assert {line.partition(":")[0] for line in lines[1:]} == {
        "host", "user-agent", "accept", "accept-encoding", "connection",
    }  # fmt: skip
    assert "accept-encoding: identity" in lines
    assert "connection: close" in lines


async def test_proxies_of_the_environment_are_not_used(monkeypatch):
    async with serve(OK) as proxy, serve(OK) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await fetch(server.url)

    assert (proxy.connections, server.connections) == (0, 1)


async def test_credentials_of_a_netrc_are_not_sent(monkeypatch, tmp_path):
    netrc = tmp_path / ".netrc"
    netrc.write_text(
        "machine 127.0.0.1 login me password CANARY\ndefault login me password CANARY\n"
    )
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    async with serve(
        [status(b"401 Unauthorized", b'WWW-Authenticate: Basic realm="x"\r\n'), OK]
    ) as server:
        with pytest.raises(ReferenceUnfetched):
            await fetch(server.url)
        await fetch(server.url)

    assert "authorization" not in "".join(server.requests).lower()


@pytest.mark.parametrize(
    "kind",
    [
        b"image/jpeg",
        b"IMAGE/PNG; charset=x",
        b"application/octet-stream",
        b"binary/octet-stream",
        b"",
    ],
)
async def test_a_server_may_mistake_the_kind_of_image(kind):
    async with serve(length(b"3", b"PNG", b"Content-Type: " + kind + b"\r\n")) as server:
        assert (await fetch(server.url)).data == b"PNG"


@pytest.mark.parametrize("kind", [b"text/html", b"application/json", b"imagery/png", b"x"])
async def test_what_its_server_calls_no_image_is_not_read(kind):
    async with serve(flood(head=ENDLESS[:-2] + b"Content-Type: " + kind + b"\r\n\r\n")) as server:
        with pytest.raises(ReferenceUnfetched) as failure:
            await fetch(server.url)

    assert (failure.value.code, failure.value.retryable) == ("reference-type", False)


async def test_what_a_server_identifies_its_bytes_by_comes_with_them():
    more = b'ETag: "v1"\r\nLast-Modified: Mon, 05 Jan 2026 12:00:00 GMT\r\n'
    async with serve(length(b"3", b"PNG", more)) as server:
        assert (await fetch(server.url)).validators == KNOWN
    async with serve(OK) as server:
        assert not (await fetch(server.url)).validators


async def test_what_is_known_is_asked_about():
    async with serve(NOT_MODIFIED) as server:
        answer = await fetch(server.url, known=KNOWN)

    assert answer == NotModified()
    lines = server.requests[0].split("\r\n")
    assert 'If-None-Match: "v1"' in lines
    assert "If-Modified-Since: Mon, 05 Jan 2026 12:00:00 GMT" in lines


async def test_bytes_that_changed_are_sent_though_something_is_known():
    async with serve(OK) as server:
        assert (await fetch(server.url, known=KNOWN)).data == b"PNG"


RETRYABLE = {
    "never answers": silence,
    "drips a header": drip(head=b"HTTP/1.1 200 OK\r\nX-A: "),
    "drips a body": drip(head=ENDLESS),
    "endless one-byte chunks": drip(head=CHUNKED, part=b"1\r\nx\r\n"),
    "endless early hints": flood(part=b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "drips early hints": drip(part=b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "says 1000, sends 3": length(b"1000"),
    "closes mid-chunk": CHUNKED + b"ff\r\nxxx",
    "resets": reset,
    "closes at once": b"",
    "negative length": length(b"-1"),
    "length that is no number": length(b"many"),
    "two lengths": length(b"3", more=b"Content-Length: 4\r\n"),
    "header flood": flood(head=b"HTTP/1.1 200 OK\r\n", part=b"X-Header: value\r\n" * 100),
    "endless header line": flood(head=b"HTTP/1.1 200 OK\r\nX-A: "),
    "ssh banner": b"SSH-2.0-OpenSSH_9.6\r\n",
    "http/0.9": b"<html>hello</html>",
    "garbage": bytes(range(256)) * 4,
    "gzip transfer coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nxxx",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "408": status(b"408 Request Timeout"),
    "429": status(b"429 Too Many Requests"),
    "500": status(b"500 Internal Server Error"),
    "503": status(b"503 Service Unavailable"),
}


@pytest.mark.parametrize("answer", RETRYABLE.values(), ids=RETRYABLE)
async def test_a_server_that_fails_ends_in_time_and_may_be_tried_again(answer):
    # Some of them never end by themselves.
    async with serve(answer) as server:
        with pytest.raises(ReferenceUnfetched) as failure:
            await fetch(server.url, timeout_s=0.4)

    assert failure.value.retryable
    assert failure.value.code == "reference-unavailable"
    assert str(failure.value) in {
        "no answer within 0.4 s",
        "the answer is cut short, or not HTTP",
        "the connection broke",
        f"the server answered {answer[9:12].decode()}" if isinstance(answer, bytes) else "",
    }


FINAL = {
    b"HTTP/1.1 204 No Content\r\n\r\n": "the server answered 204",
    length(b"3").replace(b"200 OK", b"206 Partial"): "the server answered 206",
    status(b"404 Not Found"): "the server answered 404",
    status(b"401 No", b'WWW-Authenticate: Basic realm="x"\r\n'): "the server answered 401",
    status(b"304 Not Modified"): "the server answered 304",
    status(b"302 Found"): "the server answered 302",
    length(b"3", more=b"Content-Encoding: gzip\r\n"): "the server sent it compressed",
    length(b"3", more=b"Content-Encoding: br\r\n"): "the server sent it compressed",
}


@pytest.mark.parametrize(("answer", "why"), FINAL.items())
async def test_an_answer_that_cannot_get_better_is_final_and_says_why(answer, why):
    async with serve(answer) as server:
        with pytest.raises(ReferenceUnfetched) as failure:
            await fetch(server.url)

    assert (str(failure.value), failure.value.retryable) == (why, False)


TOO_LARGE = {
    "declared": length(b"99999999999"),
    "no length, endless": flood(head=ENDLESS),
    "chunked, endless": flood(head=CHUNKED, part=b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    "one byte over": length(b"100001", body=b"x" * 100_001),
}


@pytest.mark.parametrize("answer", TOO_LARGE.values(), ids=TOO_LARGE)
async def test_a_body_over_the_cap_is_refused_and_not_cut(answer):
    async with serve(answer) as server:
        with pytest.raises(ReferenceUnfetched) as failure:
            await fetch(server.url)

    assert (failure.value.code, failure.value.retryable) == ("reference-too-large", False)


async def test_a_body_of_exactly_the_cap_is_taken():
    async with serve(length(b"100000", body=b"x" * 100_000)) as server:
        assert len((await fetch(server.url)).data) == 100_000


async def test_more_than_was_declared_is_not_read():
    async with serve(length(b"3", body=b"PNG" + b"x" * 1000)) as server:
        assert (await fetch(server.url)).data == b"PNG"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0), ("0", 0.0), ("3600", 3600.0), ("999999", 86_400.0), ("-1", 0.0), ("nonsense", None), ("", None),
        ("9" * 400, None), ("\u00b2", None), ("Mon, 05 Jan 2026 12:00:30 GMT", 30.0), ("Mon, 05 Jan 2026 11:00:00 GMT", 0.0),
        ("Mon, 05 Jan 2026 12:00:30 -0000", None), ("Mon, 99 Jan 2026 12:00:30 GMT", None),
    ],
)  # fmt: skip
async def test_retry_after_is_believed_within_reason(text, seconds):
    more = f"Date: Mon, 05 Jan 2026 12:00:00 GMT\r\nRetry-After: {text}\r\n"
    answer = status(b"429 Too Many Requests", more.encode())
    async with serve(answer) as server:
        with pytest.raises(ReferenceUnfetched) as failure:
            await fetch(server.url)

    assert failure.value.retry_after_s == seconds


async def test_nobody_listening_may_be_tried_again():
    with refusing_port() as port, pytest.raises(ReferenceUnfetched) as failure:
        await fetch(f"http://127.0.0.1:{port}/image.png")

    assert str(failure.value) == "the host refuses the connection"
    assert failure.value.retryable


async def test_the_system_resolver_is_used_by_default():
    async with serve(OK) as server:
        fetched = await fetch(
            f"http://localhost:{server.port}/", allowed=(*LOOPBACK, ip_network("::1/128"))
        )

    assert fetched.data == b"PNG"


async def test_a_look_up_counts_inside_the_deadline():
    async def sleeper(host, port):
        await asyncio.sleep(30)

    with pytest.raises(ReferenceUnfetched) as failure:
        await fetch("https://slow.example/", timeout_s=0.05, resolver=sleeper)

    assert str(failure.value) == "no answer within 0.05 s"
    assert failure.value.retryable


async def test_a_host_that_does_not_exist_is_said_not_to_exist():
    async def unknown(host, port):
        raise socket.gaierror(socket.EAI_NONAME, f"{host} at 192.0.2.53 CANARY")

    with pytest.raises(ReferenceUnfetched) as failure:
        await fetch("https://nowhere.example/a.png?token=CANARY", resolver=unknown)

    assert str(failure.value) == "the host does not exist"
    assert failure.value.retryable
