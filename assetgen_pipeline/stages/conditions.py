"""What can be wrong with a deployment, found in bucket and books: each finding is an alert."""

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime, timedelta

from assetgen_pipeline.domain.alerts import Alert, AlertKind
from assetgen_pipeline.domain.bucket_layout import INBOX, owner_of, parse_drop
from assetgen_pipeline.domain.budget import Hold
from assetgen_pipeline.domain.errors import AssetgenError, BatchNotFound
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.status import BatchStatus, is_terminal
from assetgen_pipeline.ports.ledger import Ledger
from assetgen_pipeline.ports.object_store import ObjectInfo, ObjectStore
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.stages.expiry_index import indexed_within
from assetgen_pipeline.stages.pausing import read_pauses
from assetgen_pipeline.stages.waiting_batches import read_waiting

# More than a person reads in one night.
_MOST_STUCK = 20
# A refresh that is under way, or gives links up after their retention, is no news yet.
_REFRESH_TAKES = timedelta(minutes=10)


def unclaimed_drops(
    *,
    store: ObjectStore,
    under_way: Collection[tuple[str, int]],
    max_bytes: int,
    owners: Collection[str] = (),
    provider: str = "",
) -> Iterator[ObjectInfo]:
    """The CSVs of the inbox that wait to be claimed; those that a run is for, or a pause, may.

    What is too large was rejected and is nobody's to claim: it must not hide what is late.
    `under_way` holds object name and generation; `owners` the folders that are ours, all if empty.
    """
    pauses = read_pauses(store=store)
    for found in store.list(INBOX):
        drop = parse_drop(found.name)
        if drop is None or found.size > max_bytes or (owners and drop.owner not in owners):
            continue
        is_paused = pauses.stopping(drop.owner, provider) is not None
        if not is_paused and (found.name, found.generation) not in under_way:
            yield found


def inbox_lag(
    *,
    store: ObjectStore,
    now: datetime,
    longest: timedelta,
    under_way: Collection[tuple[str, int]],
    max_bytes: int,
    owners: Collection[str] = (),
    provider: str = "",
) -> list[Alert]:
    """CSVs that somebody should have claimed by now, as `unclaimed_drops` finds them."""
    waiting = unclaimed_drops(
        store=store, under_way=under_way, max_bytes=max_bytes, owners=owners, provider=provider
    )
    late = [found for found in waiting if now - found.updated_at > longest]
    if not late:
        return []
    oldest = min(late, key=lambda found: found.updated_at)
    minutes = int((now - oldest.updated_at).total_seconds() // 60)
    return [
        Alert(
            kind=AlertKind.INBOX_LAG,
            about="",
            what=f"{len(late)} files wait in the inbox and no run is for them; the oldest,"
            f" {oldest.name}, since {minutes} minutes",
            command="assetgen doctor",
        )
    ]


def expired_links(*, store: ObjectStore, now: datetime) -> list[Alert]:
    """Published links that ended without being refreshed."""
    batches = list(indexed_within(-_REFRESH_TAKES, now, store=store))
    if not batches:
        return []
    return [
        Alert(
            kind=AlertKind.URLS_EXPIRED,
            about="",
            what=f"the links of {len(batches)} batches have ended, first those of {batches[0]}",
            command="assetgen refresh-urls --expiring 1h",
        )
    ]


def broken_invariants(*, ledger: Ledger) -> list[Alert]:
    """Invariants of the books that do not hold."""
    broken = sorted(check.name for check in ledger.verify() if check.violations)
    if not broken:
        return []
    return [
        Alert(
            kind=AlertKind.LEDGER_BROKEN,
            about="",
            state=",".join(broken),
            what=f"the ledger breaks its invariants {', '.join(broken)}",
            command="assetgen ledger verify",
        )
    ]


def stuck_batches(
    running: Iterable[str],
    holds: Iterable[Hold],
    *,
    store: ObjectStore,
    now: datetime,
    after: timedelta,
) -> list[Alert]:
    """Batches that hold money or have a live run, and whose status has not moved for long."""
    held = {hold.batch_id: hold.amount for hold in holds}
    stuck: list[Alert] = []
    for batch_id in sorted({*running, *held}):
        if len(stuck) == _MOST_STUCK:
            break
        status = _status(batch_id, store)
        if status is None or is_terminal(status.state) or _waits(batch_id, store):
            continue
        since = now - datetime.fromisoformat(status.updated_at)
        if since > after:
            stuck.append(_stuck(status, since, held.get(batch_id, Money(0))))
    return stuck


def _waits(batch_id: str, store: ObjectStore) -> bool:
    """Whether an operator made it wait: for an approval, or for the end of a pause."""
    waiting = read_waiting(batch_id, store=store)
    return waiting is not None and waiting.cause != "run"


def _status(batch_id: str, store: ObjectStore) -> BatchStatus | None:
    try:
        return read_status(batch_id, store=store)
    except BatchNotFound:
        return None


def _stuck(status: BatchStatus, since: timedelta, held: Money) -> Alert:
    minutes = int(since.total_seconds() // 60)
    return Alert(
        kind=AlertKind.BATCH_STUCK,
        about=status.batch_id,
        what=f"batch {status.batch_id} is {status.state.value} and has not moved for"
        f" {minutes} minutes",
        command=f"assetgen retry {status.batch_id}",
        batch_id=status.batch_id,
        owner=owner_of(status.batch_id),
        delivered=status.images.delivered,
        requested=status.images.requested,
        spent=Money.from_usd(status.spent_usd) if status.spent_usd is not None else None,
        held=held,
        run_id=status.run_id or "",
    )


def looked_at(
    checks: dict[AlertKind, Callable[[], list[Alert]]],
) -> tuple[list[Alert], set[AlertKind]]:
    """What every check finds; one that cannot look is an alert itself and hides no other.

    Returns the alerts, and the kinds that could not be looked at.
    """
    found: list[Alert] = []
    unseen: set[AlertKind] = set()
    for kind, check in checks.items():
        try:
            found += check()
        except AssetgenError as error:
            unseen.add(kind)
            found.append(
                Alert(
                    kind=AlertKind.CHECK_FAILED,
                    about=kind.value,
                    state=error.code,
                    what=f"the check for {kind.value} could not look: {error.code}: {error}",
                    command="assetgen doctor",
                )
            )
    return found, unseen
