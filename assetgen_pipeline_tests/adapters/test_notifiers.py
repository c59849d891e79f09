"""Notifiers against real servers of this machine: what arrives, and what happens when it cannot."""

import logging
import socket

import pytest
from werkzeug import Response

from assetgen_pipeline.adapters import webhook_notifier
from assetgen_pipeline.adapters.email_notifier import EmailNotifier
from assetgen_pipeline.adapters.log_notifier import LogNotifier
from assetgen_pipeline.adapters.webhook_notifier import WebhookNotifier
from assetgen_pipeline.domain.alerts import Alert, AlertKind
from assetgen_pipeline.domain.errors import NotificationFailed
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.testing.notifier import RecordingNotifier
from assetgen_pipeline.wiring.notifier import open_alerting
from assetgen_pipeline_tests.mail_server import a_mail_server, mailer
from assetgen_pipeline_tests.ports import refusing_port

ALERT = Alert(
    kind=AlertKind.RUN_FAILED,
    about="r",
    what="batch ada.x.0123abcd failed: <!channel> & more",
    command="assetgen retry ada.x.0123abcd",
    batch_id="ada.x.0123abcd",
    owner="ada",
)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """The servers of these tests may be slower than what an alert waits for."""
    monkeypatch.setattr(webhook_notifier, "_ALL_TRIES_S", 300)
    for notifier in (WebhookNotifier, EmailNotifier):
        monkeypatch.setitem(notifier.__init__.__kwdefaults__, "timeout_s", 300)


@pytest.fixture
def hook(httpserver):
    return httpserver.url_for("/services/SECRETTOKEN")


def test_the_webhook_gets_slacks_json_and_nobody_is_mentioned(httpserver, hook):
    httpserver.expect_request("/services/SECRETTOKEN", method="POST").respond_with_data("ok")

    WebhookNotifier(hook).notify(ALERT)

    [(request, _)] = httpserver.log
    assert list(request.json) == ["text"]
    assert "&lt;!channel&gt; &amp; more" in request.json["text"]
    assert "Do:  assetgen retry" in request.json["text"]


def test_a_busy_webhook_is_tried_again(httpserver, hook):
    httpserver.expect_ordered_request("/services/SECRETTOKEN").respond_with_data(status=503)
    httpserver.expect_ordered_request("/services/SECRETTOKEN").respond_with_data(status=429)
    httpserver.expect_ordered_request("/services/SECRETTOKEN").respond_with_data("ok")

    WebhookNotifier(hook).notify(ALERT)

    assert len(httpserver.log) == 3


def test_a_webhook_that_refuses_is_asked_once_and_its_address_is_not_told(httpserver, hook):
    httpserver.expect_request("/services/SECRETTOKEN").respond_with_data(status=404)

    with pytest.raises(NotificationFailed, match="answered 404") as failed:
        WebhookNotifier(hook).notify(ALERT)

    assert len(httpserver.log) == 1
    assert "SECRETTOKEN" not in str(failed.value)


def test_a_redirect_is_a_failure_and_is_not_followed(httpserver, hook):
    httpserver.expect_request("/services/SECRETTOKEN").respond_with_response(
        Response(status=302, headers={"Location": httpserver.url_for("/elsewhere")})
    )
    httpserver.expect_request("/elsewhere").respond_with_data("ok")

    with pytest.raises(NotificationFailed, match="answered 302"):
        WebhookNotifier(hook).notify(ALERT)

    assert len(httpserver.log) == 1


def test_a_webhook_that_nobody_serves_or_that_hangs_fails_without_its_address():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/SECRETTOKEN"
        with pytest.raises(NotificationFailed, match="Timeout") as failed:
            WebhookNotifier(url, timeout_s=0.05).notify(ALERT)
    assert "SECRETTOKEN" not in str(failed.value)
    assert failed.value.__cause__ is None


@pytest.fixture
def mail_server():
    with a_mail_server() as server:
        yield server


def test_the_mail_names_the_trouble_in_its_subject_and_has_the_whole_text(mail_server):
    mailer(mail_server).notify(ALERT)

    mail = "\n".join(mail_server.mail)
    assert "Subject: [assetgen] batch ada.x.0123abcd failed" in mail
    assert "To: oncall@shop.test" in mail
    assert "Do:  assetgen retry ada.x.0123abcd" in mail


def test_a_refused_recipient_is_a_failure(mail_server):
    mail_server.refuses = True

    with pytest.raises(NotificationFailed, match="SMTPRecipientsRefused"):
        mailer(mail_server).notify(ALERT)


def test_a_mail_server_that_is_away_is_a_failure():
    with (
        refusing_port() as port,
        pytest.raises(NotificationFailed, match="ConnectionRefusedError"),
    ):
        EmailNotifier("a@b.test", sender="c@d.test", server=f"127.0.0.1:{port}").notify(ALERT)


def test_every_alert_is_logged_with_its_batch(caplog):
    LogNotifier().notify(ALERT)

    [record] = caplog.records
    assert (record.levelno, record.batch, record.alert) == (
        logging.ERROR,
        "ada.x.0123abcd",
        "run-failed",
    )


def test_one_way_that_fails_does_not_keep_the_alert_from_the_others(caplog):
    broken, works = RecordingNotifier(failing=True), RecordingNotifier()

    LogNotifier([broken, works]).notify(ALERT)

    assert works.alerts == [ALERT]
    assert "alert not delivered" in caplog.text


def test_where_no_way_works_the_caller_knows():
    with pytest.raises(NotificationFailed):
        LogNotifier([RecordingNotifier(failing=True)]).notify(ALERT)


def test_the_settings_choose_the_ways(httpserver, hook, mail_server):
    httpserver.expect_request("/services/SECRETTOKEN").respond_with_data("ok")
    settings = load_settings(
        alert_webhook_url=hook,
        alert_email="oncall@shop.test",
        alert_smtp_server=f"127.0.0.1:{mail_server.server_address[1]}",
        alert_inbox_lag="3m",
    )

    alerting = open_alerting(settings)
    alerting.notifier.notify(ALERT)

    assert len(httpserver.log) == 1
    assert mail_server.mail
    assert alerting.inbox_lag.total_seconds() == 180
