"""Servers that are only asked for a status: an answer without an end holds nobody up."""

import itertools
import socketserver
import threading

import pytest
from werkzeug import Response

from assetgen_pipeline.adapters import link_probe, provider_probe
from assetgen_pipeline.adapters.link_probe import answer_of
from assetgen_pipeline.adapters.provider_probe import probe_gemini, probe_openai
from assetgen_pipeline.adapters.webhook_notifier import WebhookNotifier
from assetgen_pipeline.domain.alerts import Alert, AlertKind
from assetgen_pipeline.domain.errors import NotificationFailed

ALERT = Alert(kind=AlertKind.INBOX_LAG, about="", what="files wait", command="assetgen doctor")
PATIENCE_S = 300


@pytest.fixture
def url(httpserver, monkeypatch):
    for module in (link_probe, provider_probe):
        monkeypatch.setattr(module, "_TIMEOUT_S", PATIENCE_S)
    httpserver.expect_request("/").respond_with_handler(endless)
    httpserver.expect_request("/v1beta/models/m").respond_with_handler(endless)
    httpserver.expect_request("/models/m").respond_with_handler(endless)
    return httpserver.url_for("/").rstrip("/")


def endless(_request):
    return Response(itertools.repeat(b"x" * 65536))


def test_a_link_is_not_read_to_its_end(url):
    assert answer_of(url) == 200


def test_a_provider_is_not_read_to_its_end(url):
    assert probe_gemini("m", api_key="k", base_url=url).status == 200
    assert probe_openai("m", api_key="k", base_url=url).status == 200


def test_what_a_webhook_answers_is_not_read_to_its_end(url):
    WebhookNotifier(url, timeout_s=PATIENCE_S).notify(ALERT)


class Drips(socketserver.BaseRequestHandler):
    """Headers without an end, each within any time-out per read."""

    def handle(self):
        self.request.sendall(b"HTTP/1.1 200 OK\r\n")
        while not self.server.over.wait(0.05):
            self.request.sendall(b"X: y\r\n")


@pytest.fixture
def dripping():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Drips) as server:
        server.daemon_threads, server.over = True, threading.Event()
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.over.set()
        server.shutdown()
        thread.join()


def test_headers_without_an_end_hold_nobody_up_either(dripping, monkeypatch):
    for module in (link_probe, provider_probe):
        monkeypatch.setattr(module, "_TIMEOUT_S", 0.2)

    assert answer_of(dripping) == 0
    assert probe_openai("m", api_key="k", base_url=dripping).status == 0
    with pytest.raises(NotificationFailed, match="Timeout"):
        WebhookNotifier(dripping, timeout_s=0.2).notify(ALERT)
