"""Approval: a dear batch waits, holding nothing, until somebody approves it or time is up."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from assetgen_pipeline.domain.approval import Approval, fingerprint
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import ApprovalExpired, NotAwaitingApproval, ObjectMissing
from assetgen_pipeline.domain.image_request import BatchRequests
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.outcome import batch_outcome
from assetgen_pipeline.domain.status import BatchState, BatchStatus
from assetgen_pipeline.ports.object_store import ObjectStore
from assetgen_pipeline.stages.batch_status import progress_of, read_status, write_status
from assetgen_pipeline.stages.services import Services
from assetgen_pipeline.stages.waiting_batches import read_waiting, stop_waiting, wait_for


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalPolicy:
    """From which estimate on batches need approval, and how long they wait for it."""

    above: Money | None = None
    expires: timedelta = timedelta(days=7)


def must_wait(
    batch: BatchRequests, estimate: Money, *, policy: ApprovalPolicy, services: Services
) -> bool:
    """Whether the batch waits for approval now; then its status and the list say so."""
    batch_id, store = batch.batch_id, services.store
    if policy.above is None or estimate <= policy.above or _approved(batch_id, estimate, store):
        waiting = read_waiting(batch_id, store=store)
        if waiting is not None and waiting.cause == "approval":
            stop_waiting(batch_id, store=store)
        return False
    wait_for("approval", batch_id, store=store, clock=services.clock)
    write_status(
        batch_id,
        BatchState.AWAITING_APPROVAL,
        store=store,
        clock=services.clock,
        estimate_usd=estimate.usd(),
        reserved_usd="0.000000",
        **progress_of(batch_outcome(batch, None, services.ledger.attempts(batch_id))),
    )
    return True


def read_approval(batch_id: str, *, store: ObjectStore) -> Approval | None:
    """The approval that a batch has, if any."""
    try:
        return Approval.model_validate_json(store.read(BatchFolder(batch_id).approval))
    except (ObjectMissing, ValidationError):
        return None


def _approved(batch_id: str, estimate: Money, store: ObjectStore) -> bool:
    approval = read_approval(batch_id, store=store)
    request = store.read(BatchFolder(batch_id).request)
    return approval is not None and approval.covers(estimate, request)


def proposed_approval(
    batch_id: str, *, by: str, policy: ApprovalPolicy, services: Services
) -> Approval:
    """The approval as it would be recorded now; one that is recorded already stays.

    Raises:
        NotAwaitingApproval: the batch does not wait for approval.
        ApprovalExpired: it waited too long.
    """
    status = read_status(batch_id, store=services.store)
    known = read_approval(batch_id, store=services.store)
    if status.state is not BatchState.AWAITING_APPROVAL:
        if known is not None:
            return known
        message = f"{batch_id} is {status.state.value}; it does not wait for approval"
        raise NotAwaitingApproval(message)
    if services.clock.now() >= expires_at(status, policy=policy, services=services):
        message = f"{batch_id} waited for approval longer than {policy.expires}"
        raise ApprovalExpired(message)
    return Approval(
        batch_id=batch_id,
        approved_by=by,
        approved_at=services.clock.now().isoformat(),
        amount_usd=status.estimate_usd or "0.000000",
        request_sha256=fingerprint(services.store.read(BatchFolder(batch_id).request)),
    )


def expires_at(status: BatchStatus, *, policy: ApprovalPolicy, services: Services) -> datetime:
    """When a batch that waits for approval is cancelled."""
    waiting = read_waiting(status.batch_id, store=services.store)
    since = waiting.since if waiting is not None else datetime.fromisoformat(status.updated_at)
    return since + policy.expires


def record_approval(approval: Approval, *, services: Services) -> None:
    """Keep who approved what, and ask for a run.

    The status last: where one of these fails, the batch still waits, and is approved again.
    """
    services.store.write(
        BatchFolder(approval.batch_id).approval,
        approval.model_dump_json(indent=1).encode(),
        content_type="application/json",
    )
    wait_for("run", approval.batch_id, store=services.store, clock=services.clock)
    write_status(approval.batch_id, BatchState.RECEIVED, store=services.store, clock=services.clock)
