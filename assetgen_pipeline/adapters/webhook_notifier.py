"""Alerts to a webhook that takes Slack's JSON: `{"text": …}`.

The address is a secret (whoever has it can post), so no error names it.
https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
"""

import httpx
import stamina

from assetgen_pipeline.adapters.status_request import status_of
from assetgen_pipeline.domain.alerts import Alert, alert_text
from assetgen_pipeline.domain.errors import NotificationFailed
from assetgen_pipeline.ports.notifier import Notifier

_TRIES = 3
_ALL_TRIES_S = 20.0
_OK = range(200, 300)


class WebhookNotifier(Notifier):
    """Posts to one address, without redirects and within seconds."""

    def __init__(self, url: str, *, timeout_s: float = 5.0) -> None:
        self._url = url
        self._timeout_s = timeout_s

    def notify(self, alert: Alert) -> None:
        """Post one alert; what is busy or silent is tried three times.

        Raises:
            NotificationFailed: it was not taken.
        """
        for attempt in stamina.retry_context(
            on=_may_help, attempts=_TRIES, timeout=_ALL_TRIES_S, wait_initial=0.2, wait_max=2.0
        ):
            with attempt:
                self._post(alert)

    def _post(self, alert: Alert) -> None:
        document = {"text": _escaped(alert_text(alert))}
        try:
            status = status_of("POST", self._url, json=document, timeout_s=self._timeout_s)
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
            message = f"the webhook could not be reached ({type(error).__name__})"
            raise NotificationFailed(message) from None
        if status not in _OK:
            failure = NotificationFailed(f"the webhook answered {status}")
            failure.retryable = status == httpx.codes.TOO_MANY_REQUESTS or (
                status >= httpx.codes.INTERNAL_SERVER_ERROR
            )
            raise failure


def _may_help(error: Exception) -> bool:
    return isinstance(error, NotificationFailed) and error.retryable


def _escaped(text: str) -> str:
    """Slack's three characters; so nobody's prompt or file name mentions a channel."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
