"""Telling: once, again where nobody heard it, and never at the cost of what is told of."""

from assetgen_pipeline.domain.alerts import Alert, AlertCursor, AlertKind
from assetgen_pipeline.stages.alerting import tell, tell_news
from assetgen_pipeline.testing.notifier import RecordingNotifier

ALERT = Alert(kind=AlertKind.INBOX_LAG, about="", what="files wait", command="assetgen doctor")


def test_a_notifier_that_fails_is_logged_and_raises_nothing(caplog):
    assert tell(ALERT, notifier=RecordingNotifier(failing=True)) is False
    assert "nobody was told" in caplog.text


def test_what_nobody_heard_is_told_with_the_next_look_and_then_no_more():
    notifier = RecordingNotifier(failing=True)
    cursor = tell_news([ALERT], AlertCursor(), notifier=notifier)
    notifier.failing = False

    cursor = tell_news([ALERT], cursor, notifier=notifier)
    tell_news([ALERT], cursor, notifier=notifier)

    assert notifier.alerts == [ALERT]
