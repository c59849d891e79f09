"""The demo: the whole stack on this machine, three sample batches, and where to look."""

import shutil
import sys
import threading
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import click

from assetgen_pipeline.cli.batches import copy_results
from assetgen_pipeline.cli.files import drop_file
from assetgen_pipeline.cli.output import json_option, print_json, status_line
from assetgen_pipeline.cli.running import Stopped, stop_signals
from assetgen_pipeline.cli.stack import Stack, running_stack, wait_until_stopped
from assetgen_pipeline.cli.watching import StatusFollower
from assetgen_pipeline.domain.status import BatchState, BatchStatus, is_terminal
from assetgen_pipeline.ports.object_store import ObjectStore
from assetgen_pipeline.settings import Settings, isolate, load_settings
from assetgen_pipeline.wiring.bucket import emulator_endpoint, open_object_store
from assetgen_pipeline.wiring.clock import open_clock

# Each sample's owner, and how it should end.
_SAMPLES = {
    "storyboard.csv": ("ada", BatchState.COMPLETED),
    "unreachable-references.csv": ("ben", BatchState.COMPLETED),
    "invalid.csv": ("cleo", BatchState.REJECTED),
}


@click.command()
@click.option("--once", is_flag=True, help="End when the samples have ended.")
@json_option
def demo(*, once: bool, as_json: bool) -> int:
    """Everything local: start, run the samples, show the results. No account, no bill.

    Of the settings only HOME counts, whatever the environment says.
    """
    isolate()
    settings = load_settings()
    stays = sys.stdin.isatty() and sys.stdout.isatty() and not (once or as_json)
    say = partial(click.echo, err=as_json)
    try:
        with stop_signals(), running_stack(settings) as stack:
            shown = _show(stack, settings, say=say)
            if as_json:
                print_json(shown)
            if stays:
                say("Ctrl-C stops everything.")
                wait_until_stopped(stack)
    except Stopped as stopped:
        say("stopped")
        return 0 if stays else 128 + stopped.signum
    return 0 if shown["as_expected"] else 1


def _show(stack: Stack, settings: Settings, *, say: Callable[[str], None]) -> dict[str, Any]:
    clock = open_clock()
    began = clock.monotonic()
    seconds: dict[str, float] = {}

    def after(what: str) -> str:
        seconds[what] = round(clock.monotonic() - began, 1)
        return f"{seconds[what]:.0f} s"

    say("assetgen demo: everything is local; no account, nothing billed (nominal prices)")
    with open_object_store(settings) as store:
        dropped = _drop_samples(store)
        say(f"bucket   {emulator_endpoint(settings)}  (LOCAL FAKE BUCKET)")
        stack.ready()
        say(f"dagster  {stack.graph_url}   (up after {after('ui')})")
        say(f"logs     {stack.logs}")
        ended = _follow(dropped, store=store, stack=stack, after=after, say=say)
        folders = {batch_id: settings.home / "results" / batch_id for batch_id, _state in dropped}
        for batch_id, folder in folders.items():
            copy_results(batch_id, folder, store=store)
    sheet = folders[dropped[0][0]] / "contact-sheet.html"
    spent = ended[dropped[0][0]].spent_usd
    say(f"results  {sheet.parent}")
    say(f"look at  {sheet}   (${spent}, nominal{_reused(spent)})")
    command = "assetgen" if shutil.which("assetgen") else sys.argv[0]
    say(f"try      {command} costs --by batch · {command} status · {command} run FILE --owner me")
    return {
        "as_expected": all(ended[batch_id].state is state for batch_id, state in dropped),
        "dagster": stack.url,
        "graph": stack.graph_url,
        "logs": str(stack.logs),
        "contact_sheet": str(sheet),
        "seconds": seconds,
        "batches": [ended[batch_id].model_dump(mode="json") for batch_id, _state in dropped],
    }


def _reused(spent: str | None) -> str:
    """Why a second demo costs nothing."""
    return "; the images of an earlier demo were reused" if spent == "0.000000" else ""


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
    after: Callable[[str], str],
    say: Callable[[str], None],
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
                say(f"images   the first one after {after('first_image')}")
            if is_terminal(status.state):
                meant = "  (as it should be)" if status.state is BatchState.REJECTED else ""
                say(f"{status_line(status)}{meant}  after {after('end')}")
                ended[batch_id] = status
        pause.wait(0.5)
    return ended
