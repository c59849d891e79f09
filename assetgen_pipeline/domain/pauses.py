"""Pauses: what may not start or go on until an operator resumes it; `config/pause.json`."""

from datetime import datetime
from typing import Literal

from assetgen_pipeline.domain.image_request import Value

PAUSE_OBJECT = "config/pause.json"

Scope = Literal["all", "owner", "provider"]


class Pause(Value):
    """One pause: of an owner, of a provider, or of everything."""

    scope: Scope
    name: str = ""
    """The owner or provider; empty for everything."""
    by: str
    at: datetime
    why: str = ""

    @property
    def subject(self) -> str:
        """What is paused, in words."""
        return "everything" if self.scope == "all" else f"{self.scope} {self.name}"

    def sentence(self) -> str:
        """Who paused what, when and why."""
        why = f": {self.why}" if self.why else ""
        return f"{self.subject} is paused by {self.by} since {self.at.isoformat()}{why}"

    def stops(self, owner: str, provider: str) -> bool:
        """Whether a batch of this owner with this provider may not go on."""
        return (
            self.scope == "all" or self.name == {"owner": owner, "provider": provider}[self.scope]
        )


class PauseState(Value):
    """Every pause in force."""

    pauses: tuple[Pause, ...] = ()

    def stopping(self, owner: str, provider: str = "") -> Pause | None:
        """The first pause that stops a batch, if any."""
        return next((pause for pause in self.pauses if pause.stops(owner, provider)), None)

    def find(self, scope: Scope, name: str) -> Pause | None:
        """The pause of exactly this."""
        return next((p for p in self.pauses if (p.scope, p.name) == (scope, name)), None)

    def with_pause(self, pause: Pause) -> "PauseState":
        """Add a pause; one of the same thing stays as it is."""
        if self.find(pause.scope, pause.name) is not None:
            return self
        return PauseState(pauses=(*self.pauses, pause))

    def without(self, scope: Scope, name: str) -> "PauseState":
        """Take a pause away; `all` takes every pause away."""
        return PauseState(
            pauses=tuple(
                p for p in self.pauses if scope != "all" and (p.scope, p.name) != (scope, name)
            )
        )
