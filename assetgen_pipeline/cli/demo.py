"""The demo: the whole stack on this machine, three sample batches, and where to look."""

import sys
import threading
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import click

from assetgen_pipeline import wiring
from assetgen_pipeline.cli.batches import copy_results
from assetgen_pipeline.cli.files import drop_file
from assetgen_pipeline.cli.output import status_line
from assetgen_pipeline.cli.running import Stopped, stop_signals
from assetgen_pipeline.cli.stack import Stack, running_stack, wait_until_stopped
from assetgen_pipeline.cli.watching import StatusFollower
from assetgen_pipeline.domain.status import BatchState, BatchStatus, is_terminal
from assetgen_pipeline.ports import ObjectStore
from assetgen_pipeline.settings import Settings, load_settings

# Each sample's owner, and how it should end.
_SAMPLES = {
    "storyboard.csv": ("ada", BatchState.COMPLETED),
    "unreachable-references.csv": ("ben", BatchState.COMPLETED),
    "invalid.csv": ("cleo", BatchState.REJECTED),
}


@click.command()
@click.option("--once", is_flag=True, help="End when the samples have ended.")
def demo(*, once: bool) -> int:
    """Everything local: start, run the samples, show the results. No account, no bill."""
    settings = load_settings()
    stays = sys.stdin.isatty() and sys.stdout.isatty() and not once
    try:
        with stop_signals(), running_stack(settings) as stack:
            passed = _show(stack, settings)
            if stays:
                click.echo("Ctrl-C stops everything.")
                wait_until_stopped(stack)
    except Stopped as stopped:
        click.echo("stopped")
        return 0 if stays else 128 + stopped.signum
    return 0 if passed else 1


def _show(stack: Stack, settings: Settings) -> bool:
    clock = wiring.open_clock()
    began = clock.monotonic()

    def after() -> str:
        return f"{clock.monotonic() - began:.0f} s"

    click.echo("assetgen demo: everything is local; no account, nothing billed (nominal prices)")
    with wiring.open_object_store(settings) as store:
        dropped = _drop_samples(store)
        click.echo(f"bucket   {wiring.emulator_endpoint(settings)}  (LOCAL FAKE BUCKET)")
        stack.ready()
        click.echo(f"dagster  {stack.graph_url}   (up after {after()})")
        click.echo(f"logs     {stack.logs}")
        ended = _follow(dropped, store=store, stack=stack, after=after)
        folders = {batch_id: settings.home / "results" / batch_id for batch_id, _state in dropped}
        for batch_id, folder in folders.items():
            copy_results(batch_id, folder, store=store)
    sheet = folders[dropped[0][0]] / "contact-sheet.html"
    spent = ended[dropped[0][0]].spent_usd
    click.echo(f"results  {sheet.parent}")
    click.echo(f"look at  {sheet}   (${spent}, nominal)")
    click.echo(
        "try      assetgen costs --by batch · assetgen status · assetgen run FILE --owner me"
    )
    return all(ended[batch_id].state is state for batch_id, state in dropped)


def _drop_samples(store: ObjectStore) -> list[tuple[str, BatchState]]:
    dropped = []
    for name, (owner, state) in _SAMPLES.items():
        with resources.as_file(
            resources.files("assetgen_pipeline") / "data/samples" / name
        ) as file:
            batch_id = drop_file(Path(file), owner=owner, dry_run=False, store=store)
        dropped.append((batch_id, state))
    return dropped


def _follow(
    dropped: list[tuple[str, BatchState]],
    *,
    store: ObjectStore,
    stack: Stack,
    after: Callable[[], str],
) -> dict[str, BatchStatus]:
    followers = {batch_id: StatusFollower(batch_id, store=store) for batch_id, _ in dropped}
    ended: dict[str, BatchStatus] = {}
    pause = threading.Event()
    pictures = False
    while len(ended) < len(followers):
        stack.check()
        for batch_id in followers.keys() - ended.keys():
            status = followers[batch_id].read()
            if status is None:
                continue
            if status.images.delivered and not pictures:
                pictures = True
                click.echo(f"images   the first one after {after()}")
            if is_terminal(status.state):
                click.echo(f"{status_line(status)}  after {after()}")
                ended[batch_id] = status
        pause.wait(0.5)
    return ended
