"""What an operator ordered for one batch: stop it, or make some of its rows only."""

from collections.abc import Collection
from typing import Literal

from assetgen_pipeline.domain.image_request import Value

CANCEL = "cancel"
ROWS = "rows"


class Reason(Value):
    """Why an image has no attempt that could say it: a problem code and a sentence."""

    code: str
    detail: str


class BatchOrder(Value):
    """The document of `control.json`; an action that this release does not know does nothing."""

    action: str
    by: str = ""
    at: str = ""
    rows: tuple[str, ...] = ()
    """The scenes that a retry is limited to."""
    others: Reason | None = None
    """Why the other scenes have no image yet."""

    @property
    def cancels(self) -> bool:
        """Whether no further image may be started."""
        return self.action == CANCEL

    @property
    def scenes(self) -> Collection[str] | None:
        """The scenes to make, `None` for all."""
        return frozenset(self.rows) if self.action == ROWS else None


StopCode = Literal["", "cancelled", "paused", "interrupted"]
"""Why no further image is started; `interrupted`: the process was told to end, the batch was not."""
