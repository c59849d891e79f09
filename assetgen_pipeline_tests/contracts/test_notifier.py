"""What everything that tells people keeps to, real or fake."""

from contextlib import contextmanager

import pytest

from assetgen_pipeline.adapters.log_notifier import LogNotifier
from assetgen_pipeline.adapters.webhook_notifier import WebhookNotifier
from assetgen_pipeline.domain.alerts import Alert, AlertKind
from assetgen_pipeline.domain.errors import NotificationFailed
from assetgen_pipeline.testing.notifier import RecordingNotifier
from assetgen_pipeline_tests.mail_server import a_mail_server, mailer
from assetgen_pipeline_tests.processes import DEADLINE_S

FIRST, SECOND = (
    Alert(kind=AlertKind.SENSOR_DEAD, about=name, what=f"{name} is dead", command="assetgen doctor")
    for name in ("inbox_sensor", "waiting_sensor")
)


@contextmanager
def a_recorder(_request):
    notifier = RecordingNotifier()

    def fail():
        notifier.failing = True

    yield notifier, lambda: [alert.what for alert in notifier.alerts], fail


@contextmanager
def a_log(request):
    other = RecordingNotifier()
    notifier, caplog = LogNotifier([other]), request.getfixturevalue("caplog")

    def fail():
        other.failing = True

    yield notifier, lambda: [r.getMessage() for r in caplog.records if hasattr(r, "alert")], fail


@contextmanager
def a_webhook(request):
    server = request.getfixturevalue("httpserver")
    server.expect_request("/hook").respond_with_data("ok")

    def fail():
        server.clear()
        server.expect_request("/hook").respond_with_data(status=404)

    yield (
        WebhookNotifier(server.url_for("/hook"), timeout_s=DEADLINE_S),
        lambda: [r.json["text"] for r, _ in server.log],
        fail,
    )


@contextmanager
def by_mail(_request):
    with a_mail_server() as server:

        def fail():
            server.refuses = True

        yield (
            mailer(server),
            lambda: [line for line in server.mail if line.startswith("Subject: ")],
            fail,
        )


@pytest.fixture(params=[a_recorder, a_log, a_webhook, by_mail])
def told(request):
    """A notifier, what people got of it so far, and how to keep it from telling more."""
    with request.param(request) as parts:
        yield parts


def test_each_alert_is_told_once_and_in_order(told):
    notifier, heard, _ = told

    notifier.notify(FIRST)
    notifier.notify(SECOND)

    [first, second] = heard()
    assert FIRST.what in first
    assert SECOND.what in second


def test_where_nobody_can_be_told_the_caller_knows(told):
    notifier, _, fail = told
    fail()

    with pytest.raises(NotificationFailed):
        notifier.notify(FIRST)
