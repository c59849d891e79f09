"""`assetgen retry`: finish a batch. Where a daemon owns the runs it is asked, else it happens here."""

import threading

import click

from assetgen_pipeline.cli.batches import checked_batch_id, follow
from assetgen_pipeline.cli.operator import operator_name
from assetgen_pipeline.cli.output import finish, json_option, print_json
from assetgen_pipeline.cli.progress_display import PlainDisplay, open_display
from assetgen_pipeline.cli.running import execute_and_watch, stop_signals
from assetgen_pipeline.cli.watching import StatusFollower
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import BatchBusy, BatchNotFound
from assetgen_pipeline.domain.image_request import BatchRequests
from assetgen_pipeline.domain.status import BatchState, is_terminal
from assetgen_pipeline.ports.object_store import ObjectStore
from assetgen_pipeline.settings import Settings, load_settings
from assetgen_pipeline.stages.batch_files import reason_of_the_rest, rows_of
from assetgen_pipeline.stages.batch_status import read_status, write_status
from assetgen_pipeline.stages.orders import order_rows, withdraw_order
from assetgen_pipeline.stages.reserve_budget import scarcest_day
from assetgen_pipeline.stages.retry_plan import plan_retry
from assetgen_pipeline.stages.rollout import choose_lane
from assetgen_pipeline.stages.stop_batch import find_drop
from assetgen_pipeline.stages.waiting_batches import read_waiting, stop_waiting, wait_for
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.clock import open_clock
from assetgen_pipeline.wiring.deployment import csv_limits, open_deployment
from assetgen_pipeline.wiring.ledger import open_ledger
from assetgen_pipeline.wiring.readiness import require_ready

# A daemon that takes nothing up within this time is looked at again.
_TAKE_UP_S = 60.0


@click.command()
@click.argument("batch")
@click.option("--rows", metavar="S1,S2", help="Only these scenes; the others stay as they are.")
@click.option("--dry-run", is_flag=True, help="Say what it would do and cost at most.")
@json_option
def retry(batch: str, rows: str | None, *, dry_run: bool, as_json: bool) -> int:
    """Finish BATCH: only what is not delivered is made and paid.

    A refused batch reserves afresh, a cancelled one goes on. Where a daemon is alive, it is
    asked to run the batch, and this command follows; else the batch is run here.
    """
    settings = load_settings()
    with open_object_store(settings) as store:
        _expect_batch(checked_batch_id(batch), store=store)
        scenes = _checked_rows(batch, rows, settings=settings, store=store)
        if dry_run:
            return _show_plan(batch, scenes, settings=settings, store=store, as_json=as_json)
        refuse_busy(batch, settings)
        status = read_status(batch, store=store)
        if status.state is BatchState.COMPLETED:
            click.echo("nothing is left to do", err=True)
            return finish(status, as_json=as_json)
        _order(batch, scenes, store=store)
        return run_again(batch, settings=settings, store=store, as_json=as_json)


def _expect_batch(batch_id: str, *, store: ObjectStore) -> None:
    if store.stat(BatchFolder(batch_id).request) is not None:
        return
    if find_drop(batch_id, store=store) is not None:
        message = f"{batch_id} is still in the inbox; a daemon takes it from there"
        raise BatchNotFound(message)
    message = f"no batch {batch_id}"
    raise BatchNotFound(message)


def refuse_busy(batch_id: str, settings: Settings) -> None:
    """See that no live run works on the batch, nor waits in the queue to do so.

    Raises:
        BatchBusy: one does.
    """
    from assetgen_pipeline.defs import steering

    live = steering.unfinished_run_ids(batch_id, settings)
    if live:
        message = f"run {live[0]} works on {batch_id}, or is about to"
        raise BatchBusy(message)


def _checked_rows(
    batch_id: str, rows: str | None, *, settings: Settings, store: ObjectStore
) -> tuple[str, ...] | None:
    """The scenes asked for, in the file's order; `None` for all.

    Raises:
        click.UsageError: some are not in the file, or its rows are not known.
    """
    if rows is None:
        return None
    asked = {scene.strip() for scene in rows.split(",")} - {""}
    batch = rows_of(batch_id, limits=csv_limits(settings), store=store)
    known = [request.scene_id for request in batch.requests] if batch is not None else []
    unknown = sorted(asked - set(known))
    if unknown or not asked:
        message = f"--rows: not in {batch_id}: {', '.join(unknown) or 'no scene is named'}"
        raise click.UsageError(message)
    return tuple(scene for scene in known if scene in asked)


def _order(batch_id: str, scenes: tuple[str, ...] | None, *, store: ObjectStore) -> None:
    """Write down what the coming run is limited to, and why the rest has no image."""
    clock = open_clock()
    if scenes is None:
        withdraw_order(batch_id, store=store)
    else:
        others = reason_of_the_rest(batch_id, store=store)
        order_rows(batch_id, scenes, by=operator_name(), others=others, store=store, clock=clock)


def run_again(batch_id: str, *, settings: Settings, store: ObjectStore, as_json: bool) -> int:
    """Have the batch run, by the daemon or here, and follow it; the exit code that it means."""
    from assetgen_pipeline.defs import steering

    daemon = steering.daemon_is_alive(settings)
    if not daemon:
        require_ready(settings)
    if daemon:
        # Before the status: whoever closes the run before finds what was asked for since.
        wait_for("run", batch_id, store=store, clock=open_clock())
    anew = {"finished_at": None, "problem": None}
    write_status(batch_id, BatchState.RECEIVED, store=store, clock=open_clock(), **anew)
    if daemon and _taken_up(batch_id, settings=settings, store=store, as_json=as_json):
        return follow(batch_id, settings=settings, store=store, as_json=as_json)
    # What runs here needs no daemon to take it up.
    stop_waiting(batch_id, store=store)
    with stop_signals():
        return execute_and_watch(batch_id, settings=settings, store=store, as_json=as_json)


def _taken_up(batch_id: str, *, settings: Settings, store: ObjectStore, as_json: bool) -> bool:
    """Wait until a run has begun; `False` where the daemon died before it could ask for one."""
    from assetgen_pipeline.defs import steering

    display = PlainDisplay() if as_json else open_display(open_clock())
    follower = StatusFollower(batch_id, store=store, say=display.say)
    clock, pause = open_clock(), threading.Event()
    look_again_s = clock.monotonic() + _TAKE_UP_S
    display.say("asked the daemon to run it; Ctrl-C only stops watching")
    try:
        while True:
            snapshot = follower.look()
            waiting = read_waiting(batch_id, store=store)
            if waiting is None or waiting.cause != "run":
                return True
            if snapshot is not None and is_terminal(snapshot.status.state):
                return True
            if clock.monotonic() >= look_again_s:
                look_again_s = clock.monotonic() + _TAKE_UP_S
                if not steering.unfinished_run_ids(
                    batch_id, settings
                ) and not steering.daemon_is_alive(settings):
                    return False
            pause.wait(follower.wait_s())
    finally:
        display.close()


def _show_plan(
    batch_id: str,
    scenes: tuple[str, ...] | None,
    *,
    settings: Settings,
    store: ObjectStore,
    as_json: bool,
) -> int:
    from assetgen_pipeline.defs import steering

    batch = rows_of(batch_id, limits=csv_limits(settings), store=store)
    if batch is None:
        message = f"the file of {batch_id} is not valid; `assetgen status {batch_id}` says why"
        raise click.UsageError(message)
    document = _plan_document(batch, scenes, settings=settings, store=store)
    status = read_status(batch_id, store=store)
    document = {"dry_run": True, "batch_id": batch_id, "state": status.state.value, **document}
    live = steering.unfinished_run_ids(batch_id, settings)
    alive = steering.daemon_is_alive(settings)
    document["runs_by"] = "nobody: a run is live" if live else ("daemon" if alive else "here")
    if as_json:
        print_json(document)
        return 0
    click.echo(f"{batch_id} is {status.state.value}")
    click.echo(
        f"would make {document['images']} images of {document['rows']} rows,"
        f" at most ${document['estimate_usd']}; ${document['headroom_usd']} left today"
    )
    if not document["fits"]:
        click.echo("does not fit: `assetgen budget show` says until when")
    click.echo(f"run by   {document['runs_by']}")
    return 0


def _plan_document(
    batch: BatchRequests,
    scenes: tuple[str, ...] | None,
    *,
    settings: Settings,
    store: ObjectStore,
) -> dict[str, object]:
    deployment = open_deployment(settings)
    chosen = choose_lane(batch.batch_id, store=store, deployment=deployment)
    with open_ledger(settings) as ledger:
        plan = plan_retry(
            batch,
            ledger.attempts(batch.batch_id),
            price=deployment.catalogue.price(chosen.provider, chosen.model),
            scenes=scenes,
        )
        headroom = scarcest_day(batch.owner, ledger=ledger).headroom
    return {
        "rows": len(plan.scenes),
        "scenes": list(plan.scenes),
        "images": plan.images,
        "estimate_usd": plan.estimate.usd(),
        "headroom_usd": headroom.usd(),
        "fits": plan.estimate <= headroom,
    }
