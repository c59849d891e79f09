"""A notifier that remembers, and fails when it is told to."""

from assetgen_pipeline.domain.alerts import Alert
from assetgen_pipeline.domain.errors import NotificationFailed
from assetgen_pipeline.ports.notifier import Notifier


class RecordingNotifier(Notifier):
    """Keeps every alert in `alerts`; raises while `failing` is set."""

    def __init__(self, *, failing: bool = False) -> None:
        self.alerts: list[Alert] = []
        self.failing = failing

    def notify(self, alert: Alert) -> None:
        """Remember one alert.

        Raises:
            NotificationFailed: while `failing` is set.
        """
        if self.failing:
            raise NotificationFailed("nobody answers")
        self.alerts.append(alert)
