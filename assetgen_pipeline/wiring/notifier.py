"""Who is told of alerts: the log, and the webhook and mailbox that the settings name."""

from assetgen_pipeline.ports.notifier import Notifier
from assetgen_pipeline.settings import Settings
from assetgen_pipeline.stages.alerting import Alerting


def open_alerting(settings: Settings) -> Alerting:
    """The notifier with the limits beyond which something is worth an alert."""
    return Alerting(
        notifier=open_notifier(settings),
        inbox_lag=settings.alert_inbox_lag,
        stuck_after=settings.alert_stuck_after,
    )


def open_notifier(settings: Settings) -> Notifier:
    """Log, webhook and e-mail, as far as they are set."""
    from assetgen_pipeline.adapters.email_notifier import EmailNotifier
    from assetgen_pipeline.adapters.log_notifier import LogNotifier
    from assetgen_pipeline.adapters.webhook_notifier import WebhookNotifier

    others: list[Notifier] = []
    webhook = settings.alert_webhook_url.get_secret_value()
    if webhook:
        others.append(WebhookNotifier(webhook))
    if settings.alert_email:
        others.append(
            EmailNotifier(
                settings.alert_email,
                sender=settings.alert_email_from,
                server=settings.alert_smtp_server,
            )
        )
    return LogNotifier(others)


def alert_ways(settings: Settings) -> str:
    """Where alerts go, in words without addresses."""
    ways = ["log"]
    ways += ["webhook"] if settings.alert_webhook_url.get_secret_value() else []
    ways += ["e-mail"] if settings.alert_email else []
    return ", ".join(ways)
