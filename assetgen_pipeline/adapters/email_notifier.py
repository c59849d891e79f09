"""Alerts by e-mail, handed to a mail server that takes them without a login."""

import smtplib
from email.message import EmailMessage

from assetgen_pipeline.domain.alerts import Alert, alert_text
from assetgen_pipeline.domain.errors import NotificationFailed
from assetgen_pipeline.ports.notifier import Notifier

_LONGEST_SUBJECT = 120


class EmailNotifier(Notifier):
    """Sends to one address through one server."""

    def __init__(self, to: str, *, sender: str, server: str, timeout_s: float = 10.0) -> None:
        """`server` is `host` or `host:port`."""
        self._to = to
        self._sender = sender
        host, _, port = server.partition(":")
        self._host, self._port = host, int(port or smtplib.SMTP_PORT)
        self._timeout_s = timeout_s

    def notify(self, alert: Alert) -> None:
        """Hand one alert to the server.

        Raises:
            NotificationFailed: it was not taken.
        """
        text = alert_text(alert)
        message = EmailMessage()
        message["Subject"] = text.splitlines()[0][:_LONGEST_SUBJECT]
        message["From"], message["To"] = self._sender, self._to
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        try:
            with smtplib.SMTP(self._host, self._port, timeout=self._timeout_s) as server:
                server.send_message(message)
        except (OSError, smtplib.SMTPException) as error:
            reason = f"the mail server did not take it ({type(error).__name__})"
            raise NotificationFailed(reason) from error
