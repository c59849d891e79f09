"""Who is told when something needs a person."""

from abc import ABC, abstractmethod

from assetgen_pipeline.domain.alerts import Alert


class Notifier(ABC):
    """Tells people. Calls block, each with a time-out."""

    @abstractmethod
    def notify(self, alert: Alert) -> None:
        """Tell one alert.

        Raises:
            NotificationFailed: nobody was told.
        """
