"""`assetgen cancel`: stop a batch, wherever it is: inbox, queue, at work, or waiting."""

import click

from assetgen_pipeline.cli.batches import checked_batch_id
from assetgen_pipeline.cli.operator import operator_name
from assetgen_pipeline.cli.output import (
    Seconds,
    json_option,
    print_json,
    print_problem,
    status_line,
)
from assetgen_pipeline.domain.errors import BatchBusy, BatchNotFound
from assetgen_pipeline.domain.status import BatchState, BatchStatus, is_terminal
from assetgen_pipeline.settings import Settings, load_settings
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.stages.orders import order_cancel
from assetgen_pipeline.stages.parse_batch import InboxObject
from assetgen_pipeline.stages.services import Services
from assetgen_pipeline.stages.stop_batch import end_cancelled, find_drop, take_from_inbox
from assetgen_pipeline.wiring.deployment import csv_limits
from assetgen_pipeline.wiring.services import open_all

# Before any paid call there is nothing to wait for but the run's next look at its orders.
_IDLE_GRACE_S = 10.0


@click.command()
@click.argument("batch")
@click.option(
    "--grace",
    default=120.0,
    show_default=True,
    type=Seconds(min=0, max=3600),
    help="Seconds that calls in flight may take before the run is terminated.",
)
@click.option("--dry-run", is_flag=True, help="Say what it would do.")
@json_option
def cancel(batch: str, grace: float, *, dry_run: bool, as_json: bool) -> int:
    """Stop BATCH for good: what is delivered stays, the rest of its money is released.

    Calls in flight finish, no further one begins; the results list the rest as not_attempted.
    A batch that has ended stays as it is. `retry` goes on with a cancelled batch.
    """
    settings = load_settings()
    with open_all(settings) as services:
        status, drop = _find(checked_batch_id(batch), services)
        ended = status is not None and is_terminal(status.state)
        if dry_run:
            _say_what_would_happen(batch, status, ended=ended, as_json=as_json)
            return 0
        if not ended:
            status = _cancel(batch, status, drop, grace, settings=settings, services=services)
    if status is None:
        raise AssertionError("unreachable")
    if as_json:
        print_json(status.model_dump(mode="json"))
        return 0
    if ended and status.state is not BatchState.CANCELLED:
        click.echo(f"nothing to cancel: {batch} is {status.state.value}")
        return 0
    click.echo(status_line(status))
    print_problem(status)
    return 0


def _find(batch_id: str, services: Services) -> tuple[BatchStatus | None, InboxObject | None]:
    try:
        return read_status(batch_id, store=services.store), None
    except BatchNotFound:
        drop = find_drop(batch_id, store=services.store)
        if drop is None:
            raise
        return None, drop


def _say_what_would_happen(
    batch_id: str, status: BatchStatus | None, *, ended: bool, as_json: bool
) -> None:
    state = status.state.value if status is not None else "in the inbox"
    would = "nothing" if ended else "cancel"
    if as_json:
        print_json({"dry_run": True, "batch_id": batch_id, "state": state, "would": would})
    else:
        click.echo(f"{batch_id} is {state}; would do: {would}")


def _cancel(
    batch_id: str,
    status: BatchStatus | None,
    drop: InboxObject | None,
    grace_s: float,
    *,
    settings: Settings,
    services: Services,
) -> BatchStatus:
    """Order the stop, wait for the runs to obey, and close what none of them closed.

    Raises:
        BatchBusy: a run on another machine has not obeyed yet.
    """
    from assetgen_pipeline.defs import steering

    # The order first: whatever run starts from here on obeys it.
    order_cancel(batch_id, by=operator_name(), store=services.store, clock=services.clock)
    if drop is not None:
        take_from_inbox(batch_id, drop, services=services)
    paying = status is not None and status.state is BatchState.RUNNING
    grace_s = grace_s if paying else min(grace_s, _IDLE_GRACE_S)
    live = steering.stop_runs(batch_id, settings, grace_s=grace_s, services=services)
    if live:
        message = f"run {live[0]} was told to stop and still works on {batch_id}"
        raise BatchBusy(message)
    status = read_status(batch_id, store=services.store)
    if is_terminal(status.state):
        return status
    return end_cancelled(
        batch_id, run_id=status.run_id or "", limits=csv_limits(settings), services=services
    )
