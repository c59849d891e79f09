"""`assetgen approve`: let a batch spend more than `APPROVAL_ABOVE_USD`."""

import click

from assetgen_pipeline.cli.batches import checked_batch_id, follow
from assetgen_pipeline.cli.operator import operator_name
from assetgen_pipeline.cli.output import json_option, print_json
from assetgen_pipeline.cli.retrying import refuse_busy, run_again
from assetgen_pipeline.domain.approval import Approval
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import Settings, load_settings
from assetgen_pipeline.stages.approvals import (
    proposed_approval,
    read_approval,
    record_approval,
)
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.stages.services import Services
from assetgen_pipeline.wiring.deployment import approval_policy
from assetgen_pipeline.wiring.services import open_all


@click.command()
@click.argument("batch")
@click.option("--watch", is_flag=True, help="Follow the batch until it ends.")
@click.option("--dry-run", is_flag=True, help="Say what would be approved.")
@json_option
def approve(batch: str, *, watch: bool, dry_run: bool, as_json: bool) -> int:
    """Approve the estimate of BATCH; recorded with who, when and how much.

    Where a daemon is alive it runs the batch; else it is run here, as by `retry`. The
    owner's budget still has to cover it. Approving twice changes nothing.
    """
    settings = load_settings()
    with open_all(settings) as services:
        approval = proposed_approval(
            checked_batch_id(batch),
            by=operator_name(),
            policy=approval_policy(settings),
            services=services,
        )
        known = read_approval(batch, store=services.store)
        waits = read_status(batch, store=services.store).state is BatchState.AWAITING_APPROVAL
        if dry_run or (known is not None and not waits):
            _print(approval, dry_run=dry_run, as_json=as_json)
            return 0
        refuse_busy(batch, settings)
        record_approval(approval, services=services)
        return _have_it_run(
            approval, settings=settings, services=services, watch=watch, as_json=as_json
        )


def _have_it_run(
    approval: Approval, *, settings: Settings, services: Services, watch: bool, as_json: bool
) -> int:
    from assetgen_pipeline.defs import steering

    batch_id, store = approval.batch_id, services.store
    if not steering.daemon_is_alive(settings):
        return run_again(batch_id, settings=settings, store=store, as_json=as_json)
    if watch:
        return follow(batch_id, settings=settings, store=store, as_json=as_json)
    _print(approval, dry_run=False, as_json=as_json)
    return 0


def _print(approval: Approval, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json({"dry_run": dry_run, **approval.model_dump(mode="json")})
        return
    verb = "would be approved" if dry_run else "approved"
    click.echo(
        f"{verb}: {approval.batch_id}, at most ${approval.amount_usd},"
        f" by {approval.approved_by} at {approval.approved_at}"
    )
    if not dry_run:
        click.echo(f"follow   assetgen watch {approval.batch_id}")
