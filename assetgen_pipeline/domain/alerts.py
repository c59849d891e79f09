"""Alerts: what is worth waking somebody for, said once, with the next command.

An alert is about one thing (`key`) in one state; it is sent when the thing appears or its
state changes, and forgotten when the thing is gone, so that its return is news again.
"""

import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.redaction import redact
from assetgen_pipeline.domain.status import BatchState, BatchStatus

_LONGEST_TEXT = 600
_KEPT = "Nothing is lost: what is delivered stays, and nothing delivered is paid again."


class AlertKind(StrEnum):
    """What an alert is about."""

    RUN_FAILED = "run-failed"
    RUN_CANCELLED = "run-cancelled"
    BATCH_STUCK = "batch-stuck"
    QUEUE_STUCK = "queue-stuck"
    URLS_EXPIRED = "urls-expired"
    INBOX_LAG = "inbox-lag"
    LEDGER_BROKEN = "ledger-broken"
    CHECK_FAILED = "check-failed"
    SENSOR_DEAD = "sensor-dead"


_LOST_NOTHING = {
    AlertKind.RUN_FAILED: _KEPT,
    AlertKind.RUN_CANCELLED: _KEPT,
    AlertKind.BATCH_STUCK: _KEPT,
    AlertKind.QUEUE_STUCK: "Nothing is lost: queued runs start when their slots are free.",
    AlertKind.URLS_EXPIRED: "Nothing is lost: the images stay; only their links ended.",
    AlertKind.INBOX_LAG: "Nothing is lost: the files stay in the inbox until a run claims them.",
    AlertKind.LEDGER_BROKEN: "The books are kept as they are; nothing is corrected by itself.",
    AlertKind.CHECK_FAILED: "Nothing is known to be lost; this could not be looked at.",
    AlertKind.SENSOR_DEAD: "Nothing is lost: drops stay in the inbox until it works again.",
}


class Alert(Value):
    """One thing to tell a person."""

    kind: AlertKind
    about: str
    """What of its kind it is about: a run, a batch, a sensor; empty where there is one only."""
    state: str = ""
    """What makes it news again when it changes."""
    what: str
    """What happened, in a sentence."""
    command: str
    """The next command to type."""
    batch_id: str = ""
    owner: str = ""
    delivered: int = 0
    requested: int = 0
    spent: Money | None = None
    held: Money | None = None
    run_id: str = ""

    @property
    def key(self) -> str:
        """What the alert is about: one alert at a time."""
        return f"{self.kind.value}:{self.about}"


class AlertCursor(Value):
    """What was told, by key, and in which state."""

    told: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlertPlan:
    """What to tell now, and what is known to be told once that is done."""

    news: tuple[Alert, ...]
    cursor: AlertCursor


def plan_alerts(
    found: Sequence[Alert], cursor: AlertCursor, *, unseen: Collection[AlertKind] = ()
) -> AlertPlan:
    """Tell each thing once until it changes; kinds that could not be looked at stay as told."""
    kept = {
        key: state
        for key, state in cursor.told.items()
        if any(key.startswith(f"{kind.value}:") for kind in unseen)
    }
    news = tuple(alert for alert in found if cursor.told.get(alert.key) != alert.state)
    told = {**kept, **{alert.key: alert.state for alert in found}}
    return AlertPlan(news=news, cursor=AlertCursor(told=told))


def alert_text(alert: Alert) -> str:
    """The message, as plain text of a few lines: no secret, no link, no line of a stranger's."""
    lines = [f"[assetgen] {_line(alert.what)}", " · ".join(_facts(alert))]
    lines += [_LOST_NOTHING[alert.kind], f"Do:  {_line(alert.command)}"]
    if alert.run_id:
        lines.append(f"Run  {_line(alert.run_id)}")
    return "\n".join(line for line in lines if line)


def _facts(alert: Alert) -> list[str]:
    facts = []
    if alert.batch_id:
        facts.append(f"batch {_line(alert.batch_id)}")
    if alert.owner:
        facts.append(f"owner {_line(alert.owner)}")
    if alert.requested:
        facts.append(f"{alert.delivered} of {alert.requested} images delivered")
    if alert.spent is not None:
        facts.append(f"{alert.spent} spent")
    if alert.held is not None:
        facts.append(f"{alert.held} held")
    return facts


def _line(text: str) -> str:
    """One line of bounded length, without anything that steers a terminal or hides text."""
    clean = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in text)
    return redact(" ".join(clean.split()))[:_LONGEST_TEXT]


_RUN_COMMANDS = {
    BatchState.REJECTED: "assetgen results {} -o . (problem.json names every line to correct)",
    BatchState.REFUSED: "assetgen budget show {owner}, and then assetgen retry {}",
}


def run_alert(
    kind: AlertKind,
    status: BatchStatus | None,
    *,
    batch_id: str,
    run_id: str,
    why: str,
    held: Money,
) -> Alert:
    """The alert of a run that failed or was cancelled; `status` is the batch's, where known."""
    owner = batch_id.partition(".")[0]
    state = status.state if status is not None else BatchState.FAILED
    verb = "was cancelled" if kind is AlertKind.RUN_CANCELLED else f"ended as {state.value}"
    command = _RUN_COMMANDS.get(state, "assetgen retry {}")
    if status is not None and status.resumes:
        why = f"{why} (a running daemon finishes it by itself)"
        command = "assetgen watch {}"
    return Alert(
        kind=kind,
        about=run_id,
        what=f"batch {batch_id} {verb}: {why}",
        command=command.format(batch_id, owner=owner),
        batch_id=batch_id,
        owner=owner,
        delivered=status.images.delivered if status is not None else 0,
        requested=status.images.requested if status is not None else 0,
        spent=_money(status.spent_usd if status is not None else None),
        held=held,
        run_id=run_id,
    )


def _money(usd: str | None) -> Money | None:
    return Money.from_usd(usd) if usd is not None else None
