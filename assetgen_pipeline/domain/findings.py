"""What a check of the deployment found: a state, a value, and what to do."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result."""

    state: State
    subject: str
    value: str
    fix: str = ""
