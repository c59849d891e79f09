"""Recovery: holds whose run is dead, by what Dagster and the host know of the run.

Never by status alone (a run of another terminal may be live) and never by age: a hold is
dead when its run is over, or when the process that worked on it has provably ended.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from assetgen_pipeline.defs.closing import death, is_taken_over, sweep
from assetgen_pipeline.defs.runs import may_be_working
from assetgen_pipeline.defs.unclosed_runs import close_kept_in_mind, keep_in_mind
from assetgen_pipeline.defs.workers import is_gone
from assetgen_pipeline.domain.budget import Hold, InvariantCheck
from assetgen_pipeline.stages.close_batch import close_batch
from assetgen_pipeline.stages.recover_holds import (
    OVERDUE_SENTENCE,
    HoldFinding,
    RunFate,
    recover_holds,
)
from assetgen_pipeline.stages.services import Services

I10 = "I10"
_GRACE = timedelta(minutes=5)
# Another deployment may share the ledger; its runs are unknown here and no fault for a day.
_UNKNOWN_GRACE = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What one recovery did."""

    ended_runs: tuple[str, ...]
    holds: tuple[HoldFinding, ...]

    def summary(self) -> str:
        """One line for a log."""
        expired = [one.hold.batch_id for one in self.holds if one.released is not None]
        parts = [f"ended {', '.join(self.ended_runs)}"] if self.ended_runs else []
        parts += [f"expired the holds of {', '.join(expired)}"] if expired else []
        return "; ".join(parts) or "no dead run"


def fate_of(instance: dg.DagsterInstance, hold: Hold) -> RunFate:
    """What became of a hold's run."""
    run = instance.get_run_by_id(hold.run_id) if hold.run_id else None
    if run is None:
        return RunFate.GONE if hold.worker and is_gone(hold.worker) else RunFate.UNKNOWN
    if not run.is_finished and not may_be_working(run):
        # It may have ended by itself, and its process with it, until that was looked for.
        run = instance.get_run_by_id(run.run_id) or run
    if run.is_finished:
        return RunFate.FINISHED
    return RunFate.WORKING if may_be_working(run) else RunFate.GONE


def recover(
    instance: dg.DagsterInstance,
    *,
    services: Services,
    also_unknown: bool = False,
    launches_here: bool = False,
) -> Recovery:
    """End dead runs, expire the holds that dead runs left, and close their batches.

    `launches_here` is as for `sweep`. Safe to repeat and to run in many processes at once:
    the fence lets one of them win.
    """
    ended = sweep(instance, services=services, launches_here=launches_here)
    holds = services.ledger.open_holds()
    for hold in holds:
        _keep_in_mind(instance, hold)
    findings = expire_dead_holds(instance, holds, services=services, also_unknown=also_unknown)
    for finding in findings:
        if finding.released is not None:
            _close(instance, finding, services=services)
    close_kept_in_mind(instance, services=services)
    return Recovery(ended_runs=tuple(ended), holds=tuple(findings))


def expire_dead_holds(
    instance: dg.DagsterInstance,
    holds: Iterable[Hold],
    *,
    services: Services,
    also_unknown: bool = False,
) -> list[HoldFinding]:
    """Free the money of dead runs, and nothing else."""
    return recover_holds(
        holds,
        fate_of=lambda hold: fate_of(instance, hold),
        services=services,
        also_unknown=also_unknown,
    )


def free_owner(instance: dg.DagsterInstance, owner: str, batch_id: str, services: Services) -> None:
    """Free what dead runs of an owner hold, so that no batch is refused for their sake."""
    holds = services.ledger.open_holds()
    others = [hold for hold in holds if hold.owner == owner and hold.batch_id != batch_id]
    expire_dead_holds(instance, others, services=services)


def _keep_in_mind(instance: dg.DagsterInstance, hold: Hold) -> None:
    """Have the batch of a run that is over closed: once its hold is gone, only the run tells so.

    One that succeeded was not asked for every asset of its batch: nothing ended badly.
    """
    run = instance.get_run_by_id(hold.run_id) if hold.run_id else None
    if run is not None and run.is_finished and not run.is_success:
        keep_in_mind(instance, run)


def _close(instance: dg.DagsterInstance, finding: HoldFinding, *, services: Services) -> None:
    """End the batch of a run that Dagster does not know to be over."""
    hold = finding.hold
    if finding.fate is not RunFate.FINISHED and not is_taken_over(
        instance, hold.batch_id, hold.run_id, services=services
    ):
        error = death(cancelled=False)
        close_batch(hold.batch_id, error, run_id=hold.run_id, services=services)


def check_holds(
    instance: dg.DagsterInstance, holds: Iterable[Hold], *, now: datetime
) -> InvariantCheck:
    """Invariant I10."""
    late = [hold for hold in holds if _is_overdue(instance, hold, now)]
    return InvariantCheck(
        name=I10,
        sentence=OVERDUE_SENTENCE,
        violations=tuple(f"{hold.batch_id} holds {hold.amount} for a dead run" for hold in late),
    )


def _is_overdue(instance: dg.DagsterInstance, hold: Hold, now: datetime) -> bool:
    age = now - hold.opened_at if hold.opened_at is not None else timedelta.max
    match fate_of(instance, hold):
        case RunFate.WORKING:
            return False
        case RunFate.GONE:
            return age > _GRACE
        case RunFate.UNKNOWN:
            return age > _UNKNOWN_GRACE
        case RunFate.FINISHED:
            record = instance.get_run_record_by_id(hold.run_id)
            ended = record.end_time if record is not None else None
            return ended is None or now - datetime.fromtimestamp(ended, UTC) > _GRACE
