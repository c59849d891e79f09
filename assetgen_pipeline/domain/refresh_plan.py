"""Which published batches to refresh next: decided from the expiry index alone.

Pure: the sensor lists, calls this, and reports. What was asked for is not asked for again
for a while, so that one batch that cannot be refreshed never holds up the others.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import Field

from assetgen_pipeline.domain.delivery import LinkAction, LinkLife, UrlPolicy
from assetgen_pipeline.domain.image_request import Value

ASK_AGAIN_AFTER = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """One entry of the expiry index; `key` changes whenever the entry is written anew."""

    name: str
    key: str
    batch_id: str
    life: LinkLife


class RefreshCursor(Value):
    """What was asked for and when, by the key of its entry: the sensor's cursor."""

    asked: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RefreshPlan:
    """The batches of the next run, oldest links first, and the cursor that goes with it."""

    batch_ids: tuple[str, ...]
    cursor: RefreshCursor


def plan_refresh(
    entries: Iterable[IndexEntry],
    *,
    cursor: RefreshCursor,
    now: datetime,
    policy: UrlPolicy,
    limit: int,
    at_work: bool = False,
) -> RefreshPlan:
    """Choose up to `limit` batches that are due; `entries` is read no further than needed.

    While a refresh is `at_work`, what was asked for is left to it, however long it takes.
    """
    wanted: dict[str, None] = {}
    asked: dict[str, str] = {}
    for entry in entries:
        if entry.life.action(now, policy) is LinkAction.WAIT:
            continue
        before = cursor.asked.get(entry.key)
        if before is not None and (at_work or not _long_ago(before, now)):
            asked[entry.key] = before
            continue
        asked[entry.key] = now.isoformat()
        wanted[entry.batch_id] = None
        if len(wanted) == limit:
            break
    return RefreshPlan(tuple(wanted), RefreshCursor(asked=asked))


def _long_ago(before: str, now: datetime) -> bool:
    # In both directions: a clock that was put back must not silence a batch.
    return abs(now - datetime.fromisoformat(before)) >= ASK_AGAIN_AFTER
