"""A server on loopback that answers as it likes, one fetch from it, and URLs that lead inside."""

import asyncio
import ssl
from contextlib import asynccontextmanager
from ipaddress import ip_network

from assetgen_pipeline.adapters.http_reference_fetcher import HttpReferenceFetcher
from assetgen_pipeline.domain.references import Validators

LOOPBACK = (ip_network("127.0.0.0/8"),)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 3\r\n\r\nPNG"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n"
BLANK_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Server:
    """A server that answers with bytes, or with whatever a coroutine does to the connection."""

    def __init__(self, answer):
        self.answer = answer
        self.requests = []
        self.connections = 0
        self.open = set()

    async def handle(self, reader, writer):
        self.connections += 1
        self.open.add(asyncio.current_task())
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(request.decode())
            answer = self.answer
            if isinstance(answer, list):
                answer = answer[min(len(self.requests), len(answer)) - 1]
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self.open.discard(asyncio.current_task())


@asynccontextmanager
async def serve(answer, *, host="127.0.0.1", port=0, **options):
    handler = Server(answer)
    server = await asyncio.start_server(handler.handle, host, port, **options)
    handler.port = server.sockets[0].getsockname()[1]
    handler.url = f"http://127.0.0.1:{handler.port}/image.png"
    try:
        async with server:
            yield handler
            server.close()
            for task in list(handler.open):
                task.cancel()
            await asyncio.gather(*handler.open, return_exceptions=True)
    finally:
        await asyncio.sleep(0)


async def fetch(url, *, timeout_s=300, max_bytes=100_000, allowed=LOOPBACK, known=None, **options):
    # Loading the real authorities takes longer than most of these tests.
    options.setdefault("ssl_context", BLANK_TLS)
    fetcher = HttpReferenceFetcher(
        timeout_s=timeout_s, max_bytes=max_bytes, allowed_networks=allowed, **options
    )
    try:
        return await fetcher.fetch(url, known=known)
    finally:
        await fetcher.aclose()


def drip(*, head=b"", part=b"x"):
    async def answer(writer):
        writer.write(head)
        while True:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.02)

    return answer


def flood(*, head=b"", part=b"x" * 65536):
    async def answer(writer):
        writer.write(head)
        while True:
            writer.write(part)
            await writer.drain()

    return answer


async def silence(writer):
    await asyncio.Event().wait()


async def reset(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nxxx")
    await writer.drain()
    writer.transport.abort()


def length(value, body=b"xxx", more=b""):
    return b"HTTP/1.1 200 OK\r\nContent-Length: " + value + b"\r\n" + more + b"\r\n" + body


def status(line, more=b""):
    return b"HTTP/1.1 " + line + b"\r\nContent-Length: 0\r\n" + more + b"\r\n"


def to(location, code=b"302 Found"):
    return status(code, b"Location: " + location + b"\r\n")


KNOWN = Validators(etag='"v1"', last_modified="Mon, 05 Jan 2026 12:00:00 GMT")
NOT_MODIFIED = b'HTTP/1.1 304 Not Modified\r\nETag: "v1"\r\n\r\n'
LIST_B = [
    "http://127.0.0.1/", "http://localhost/", "http://LOCALHOST/", "http://localhost./", "http://2130706433/",
    "http://0x7f000001/", "http://017700000001/", "http://0177.0.0.1/", "http://0x7f.1/", "http://127.1/",
    "http://127.0.1/", "http://0/", "http://[::]/", "http://[::1]/", "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/", "http://[0:0:0:0:0:ffff:127.0.0.1]/", "http://[::127.0.0.1]/", "http://[::1%25lo]/",
    "http://127。0。0。1/", "http://①②⑦.⓪.⓪.①/", "http://ⓛocalhost/", "http://localhost:0/",
    "http://127.0.0.1%2f@example.com/", "http://localhost%00.example.com/", "http://example.com@127.0.0.1/",
    "http://127.0.0.1#@example.com/", "http://example.com\\@127.0.0.1/", "http://127.0.0.1:80\\@example.com/",
    "http://a@b@127.0.0.1/", "http://exa\tmple.com/", "http://example.com:80:80/", "http://example.com:0/",
    "http://example.com:22/", "http://example.com:99999/", "http:///127.0.0.1/", "//127.0.0.1/",
    "http://metadata.google.internal/", "http://metadata/", "http://kubernetes.default.svc/",
    "http://host.docker.internal/", "file:///etc/passwd", "gopher://127.0.0.1:6379/_INFO", "ftp://127.0.0.1/",
    "dict://127.0.0.1:11211/", "data:image/png;base64,AA==", "javascript:1", "gs://bucket/o", "s3://b/o",
    "unix:/var/run/docker.sock", "jar:http://x!/", "http://" + "x" * 2100 + "/", "http://" + "x" * 64 + ".com/",
    "", " ", "http://", "http://exa\0mple.com/", "http://exa\r\nmple.com/", "http://exa\u202emple.com/",
]  # fmt: skip


def always(*addresses):
    async def resolver(host, port):
        return list(addresses)

    return resolver
