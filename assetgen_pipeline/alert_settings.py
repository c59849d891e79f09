"""Settings of alerts: where they go, and from when on something is worth one."""

import re
from datetime import timedelta

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings


class AlertSettings(BaseSettings):
    """A part of `Settings`, which gives its fields their prefix and reads the durations."""

    alert_webhook_url: SecretStr = Field(
        SecretStr(""), description="Where alerts are posted as JSON (Slack-compatible)."
    )
    alert_email: str = Field(
        "", description="Where alerts are mailed, through `ALERT_SMTP_SERVER`."
    )
    alert_email_from: str = Field("assetgen@localhost", description="Who alerts are mailed by.")
    alert_smtp_server: str = Field(
        "localhost:25", description="The mail server for alerts, `host:port`; used without a login."
    )
    alert_inbox_lag: timedelta = Field(
        timedelta(minutes=10),
        gt=timedelta(0),
        description="A file that waits longer in the inbox, with no run for it, is an alert.",
    )
    alert_stuck_after: timedelta = Field(
        timedelta(hours=1),
        gt=timedelta(0),
        description="A batch under way whose status does not move for longer is an alert.",
    )

    @field_validator("alert_email", "alert_email_from")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and not re.fullmatch(r"[^\x00-\x1f\x7f]+@[^\x00-\x1f\x7f]+", value):
            message = "not an e-mail address"
            raise ValueError(message)
        return value

    @field_validator("alert_smtp_server")
    @classmethod
    def _mail_server(cls, value: str) -> str:
        found = re.fullmatch(r"[^\s:/@]+(?::([0-9]{1,5}))?", value)
        if found is None or int(found[1] or 25) not in range(1, 65_536):
            message = "not a mail server: host, or host:port"
            raise ValueError(message)
        return value

    @field_validator("alert_webhook_url")
    @classmethod
    def _web_address(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and not re.match(r"https?://", value.get_secret_value()):
            message = "not an http:// or https:// address"
            raise ValueError(message)
        return value
