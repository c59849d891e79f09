"""The sensor's brain: which drops to ask runs for, and what to remember until the next tick.

A drop is *pending* from the tick that requests a run for it until that run has claimed it,
which takes it out of the listing. Nothing else is remembered, so the cursor stays small.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Literal

from assetgen_pipeline.domain.bucket_layout import INBOX, Drop, parse_drop
from assetgen_pipeline.domain.image_request import Value

MAX_ATTEMPTS = 3
# A run that was asked for shows up in the same tick; where it has not by then, ask again:
# the run key is the same, so that a request that did arrive is not made twice.
_LOST_AFTER = timedelta(minutes=1)
_IGNORED_KEPT = 1_000

RunState = Literal["live", "failed", "done", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DropSeen:
    """An object of the inbox as it was listed."""

    name: str
    generation: int
    updated_at: datetime
    too_large: bool
    """Whether it is over the limit, so that nobody may read it into memory."""


class PendingDrop(Value):
    """A drop that a run was asked for, or that was given up; still in the inbox when last seen."""

    name: str
    generation: int
    attempt: int
    requested_at: datetime
    given_up: bool = False

    @property
    def run_key(self) -> str:
        """What makes one request for one attempt idempotent."""
        return run_key(self.name, self.generation, self.attempt)


class TickCursor(Value):
    """What one tick tells the next; JSON with `model_dump_json`, `model_validate_json`."""

    pending: tuple[PendingDrop, ...] = ()
    ignored: tuple[str, ...] = ()
    """Names that were reported as no batch and are still listed, by their `_mark`."""
    last_turn: str = ""
    """The owner served last: the next tick begins with the one after it, so nobody starves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """One run to ask for."""

    batch_id: str
    drop: Drop
    generation: int
    run_key: str
    attempt: int
    dry_run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TickPlan:
    """What a tick asks for, remembers and reports (each report is made once)."""

    requests: tuple[RunPlan, ...]
    cursor: TickCursor
    ignored: tuple[tuple[str, str], ...]
    """Names, and why they are no batch."""
    given_up: tuple[RunPlan, ...]
    """The last attempt of each drop that no run managed to claim."""
    too_large: tuple[RunPlan, ...]
    """Drops that no run is asked for, because they are over the limit."""
    paused: Mapping[str, int]
    """Paused owners, and how many of their drops would be due."""


@dataclass(frozen=True, slots=True)
class _Due:
    """A drop that an attempt is due for."""

    drop: Drop
    generation: int
    attempt: int


def run_key(name: str, generation: int, attempt: int) -> str:
    """The idempotency key of one attempt at one drop."""
    return f"{name}#{generation}#{attempt}"


def plan_tick(
    listing: Sequence[DropSeen],
    *,
    bucket: str,
    cursor: TickCursor,
    run_states: Mapping[str, RunState],
    owners_allowed: frozenset[str] | None,
    max_runs: int,
    now: datetime,
    is_paused: Callable[[str], bool] = lambda _owner: False,
) -> TickPlan:
    """Decide one tick; run states must be read before the inbox is listed.

    In that order a run that is over while its drop is still listed surely left it unclaimed.
    Owners take turns, each with its oldest drop first; paused ones have none. The folders of owners that are not
    allowed are another deployment's business and are passed over.
    """
    earlier = {(item.name, item.generation): item for item in cursor.pending}
    kept: dict[tuple[str, int], PendingDrop] = {}
    due: list[_Due] = []
    given_up: list[RunPlan] = []
    paused: Counter[str] = Counter()
    drops = list(_drops(listing, owners_allowed))
    for seen, drop in drops:
        key = (seen.name, seen.generation)
        pending = earlier.get(key)
        if pending is not None:
            kept[key] = pending
        attempt = _next_attempt(pending, run_states, now=now)
        if seen.too_large:
            kept[key] = _refused(seen, now=now)
        elif attempt is not None and is_paused(drop.owner):
            paused[drop.owner] += 1
        elif pending is not None and attempt is not None and attempt > MAX_ATTEMPTS:
            kept[key] = pending.model_copy(update={"given_up": True})
            last = _Due(drop, seen.generation, pending.attempt)
            given_up.append(_run_plan(last, bucket=bucket))
        elif attempt is not None:
            due.append(_Due(drop, seen.generation, attempt))
    served = list(islice(_in_turns(due, after=cursor.last_turn), max_runs))
    for item in served:
        kept[item.drop.name, item.generation] = PendingDrop(
            name=item.drop.name,
            generation=item.generation,
            attempt=item.attempt,
            requested_at=now,
        )
    strays, known = _strays(listing), frozenset(cursor.ignored)
    return TickPlan(
        requests=tuple(_run_plan(item, bucket=bucket) for item in served),
        cursor=TickCursor(
            pending=tuple(kept.values()),
            ignored=tuple(map(_mark, strays)),
            last_turn=served[-1].drop.owner if served else cursor.last_turn,
        ),
        ignored=tuple(
            (name, reason) for name, reason in strays.items() if _mark(name) not in known
        ),
        given_up=tuple(given_up),
        too_large=tuple(
            _run_plan(_Due(drop, seen.generation, attempt=0), bucket=bucket)
            for seen, drop in drops
            if seen.too_large and (seen.name, seen.generation) not in earlier
        ),
        paused=dict(paused),
    )


def _refused(seen: DropSeen, *, now: datetime) -> PendingDrop:
    return PendingDrop(
        name=seen.name, generation=seen.generation, attempt=0, requested_at=now, given_up=True
    )


def _drops(
    listing: Sequence[DropSeen], owners_allowed: frozenset[str] | None
) -> Iterator[tuple[DropSeen, Drop]]:
    for seen in sorted(listing, key=lambda seen: (seen.updated_at, seen.name)):
        drop = parse_drop(seen.name)
        if drop is not None and (owners_allowed is None or drop.owner in owners_allowed):
            yield seen, drop


def _next_attempt(
    pending: PendingDrop | None, run_states: Mapping[str, RunState], *, now: datetime
) -> int | None:
    """The attempt that is due now; past `MAX_ATTEMPTS` it is time to give up."""
    if pending is None:
        return 1
    state = run_states.get(pending.run_key, "unknown")
    if pending.given_up or state == "live":
        return None
    if state == "unknown":
        # In both directions: a clock that was put back must not keep a drop waiting.
        return pending.attempt if abs(now - pending.requested_at) >= _LOST_AFTER else None
    return pending.attempt + 1


def _in_turns(due: Sequence[_Due], *, after: str) -> Iterator[_Due]:
    queues: dict[str, deque[_Due]] = {}
    for item in due:
        queues.setdefault(item.drop.owner, deque()).append(item)
    turns = deque(queues[owner] for owner in sorted(queues, key=lambda name: (name <= after, name)))
    while turns:
        queue = turns.popleft()
        yield queue.popleft()
        if queue:
            turns.append(queue)


def _run_plan(item: _Due, *, bucket: str) -> RunPlan:
    drop = item.drop
    return RunPlan(
        batch_id=drop.batch_id(bucket=bucket, generation=item.generation),
        drop=drop,
        generation=item.generation,
        run_key=run_key(drop.name, item.generation, item.attempt),
        attempt=item.attempt,
        dry_run=drop.dry_run,
    )


def _strays(listing: Sequence[DropSeen]) -> dict[str, str]:
    """Why each name is no batch, for the first 1,000 of them; folder markers are no news."""
    names = sorted(seen.name for seen in listing if not seen.name.endswith("/"))
    strays = ((name, _why_ignored(name)) for name in names if parse_drop(name) is None)
    return dict(islice(strays, _IGNORED_KEPT))


def _mark(name: str) -> str:
    # Dagster keeps the cursor with each tick, one every five seconds, and a name may be 1 KB long.
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _why_ignored(name: str) -> str:
    folders = name.removeprefix(INBOX).split("/")[:-1]
    if not name.lower().endswith(".csv"):
        return "not a .csv file"
    if not folders:
        return "not in an owner's folder"
    if len(folders) > 1:
        return "in a deeper folder; only dry-run/ is looked into"
    return "its name is empty or has control characters, or its folder is not the name of an owner"
