"""How a batch under way is shown: bars in place on a terminal, else a line per change."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from assetgen_pipeline.cli.output import status_line
from assetgen_pipeline.domain.progress import STAGES, BatchProgress, seconds_left
from assetgen_pipeline.domain.status import BatchState, BatchStatus
from assetgen_pipeline.ports.clock import Clock

_BAR_WIDTH = 32
_BEFORE_FILE_IS_READ = (BatchState.RECEIVED, BatchState.VALIDATING, BatchState.AWAITING_APPROVAL)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How a batch stands now, all of it read from the bucket."""

    status: BatchStatus
    progress: BatchProgress | None = None
    note: str = ""
    """What holds it up, if anything."""


@dataclass(frozen=True, slots=True)
class StageBar:
    """One stage: how much of it is done."""

    name: str
    done: float
    total: float

    @property
    def figures(self) -> str:
        """Its units, where it has any."""
        return f"{self.done:.0f}/{self.total:.0f}" if self.total > 1 else ""


def stage_bars(snapshot: Snapshot) -> list[StageBar]:
    """A bar for every stage: those behind are full, those ahead are empty."""
    progress, status = snapshot.progress, snapshot.status
    present = STAGES.index(progress.stage) if progress is not None else 0
    if status.state in _BEFORE_FILE_IS_READ or progress is None:
        present = 0
    bars = []
    for index, name in enumerate(STAGES):
        if name == "images" and status.images.requested:
            counts = status.images
            bars.append(StageBar(name, counts.requested - counts.not_attempted, counts.requested))
        elif index == present and progress is not None and progress.stage == name:
            bars.append(StageBar(name, progress.done, max(progress.total, 1)))
        else:
            bars.append(StageBar(name, float(index < present), 1))
    return bars


class Pace:
    """How fast images end, since this process began to look."""

    def __init__(self, clock: Clock) -> None:
        """Nothing is seen yet."""
        self._clock = clock
        self._first: tuple[int, float] | None = None

    def seconds_left(self, status: BatchStatus) -> float | None:
        """Time until every image has ended, `None` while nobody can say."""
        done = status.images.requested - status.images.not_attempted
        now_s = self._clock.monotonic()
        if self._first is None or done < self._first[0]:
            self._first = (done, now_s)
        return seconds_left(
            done=done,
            total=status.images.requested,
            since_done=done - self._first[0],
            seconds=now_s - self._first[1],
        )


def money(status: BatchStatus) -> str:
    """What is spent, of what may be spent at most."""
    spent = f"${status.spent_usd}" if status.spent_usd else "$0"
    return f"{spent} of at most ${status.estimate_usd}" if status.estimate_usd else spent


def details(snapshot: Snapshot, left_s: float | None) -> Iterator[str]:
    """Money, time left, errors by reason and what holds the batch up."""
    status, progress = snapshot.status, snapshot.progress
    line = money(status)
    if left_s is not None and status.state is BatchState.RUNNING and not snapshot.note:
        minutes, seconds = divmod(round(left_s), 60)
        line += f"   about {minutes}:{seconds:02} left"
    yield line
    reasons = _reasons(progress)
    if reasons:
        yield "   ".join(reasons)
    if snapshot.note:
        yield snapshot.note


def _reasons(progress: BatchProgress | None) -> list[str]:
    """Why images ended without success, and why some are tried again."""
    if progress is None:
        return []
    said = [f"{code} {count}" for code, count in progress.errors.items()]
    retried = ", ".join(f"{code} {count}" for code, count in progress.retried.items())
    return [*said, f"trying again: {retried}"] if retried else said


class PlainDisplay:
    """A line on stderr whenever something changed."""

    def __init__(self) -> None:
        """Nothing is shown yet."""
        self._last = ""

    def show(self, snapshot: Snapshot) -> None:
        """Print how the batch stands, if that is news."""
        parts = [status_line(snapshot.status)]
        reasons = _reasons(snapshot.progress)
        if reasons:
            parts.append(", ".join(reasons))
        if snapshot.note:
            parts.append(snapshot.note)
        line = "  ".join(parts)
        if line != self._last:
            self._last = line
            self.say(line)

    def say(self, line: str) -> None:
        """Print a line."""
        click.echo(line, err=True)

    def close(self) -> None:
        """Nothing is left behind."""


class BarDisplay:
    """Bars on the terminal, redrawn in place."""

    def __init__(self, clock: Clock, console: Console | None = None) -> None:
        """Draw nothing yet."""
        self._pace = Pace(clock)
        self._console = console or Console(stderr=True)
        self._live = Live(console=self._console, transient=True, auto_refresh=False)

    def show(self, snapshot: Snapshot) -> None:
        """Redraw."""
        self._live.start()
        self._live.update(self.drawing(snapshot), refresh=True)

    def drawing(self, snapshot: Snapshot) -> RenderableType:
        """The picture of one snapshot."""
        left_s = self._pace.seconds_left(snapshot.status)
        grid = Table.grid(padding=(0, 1))
        for bar in stage_bars(snapshot):
            grid.add_row(
                bar.name,
                ProgressBar(total=bar.total, completed=bar.done, width=_BAR_WIDTH),
                bar.figures,
            )
        status = snapshot.status
        head = Text(f"{status.state.value}  {status.batch_id}", style="bold")
        return Group(head, grid, *(Text(line) for line in details(snapshot, left_s)))

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self._console.print(Text(line))

    def close(self) -> None:
        """Take the bars away; what is printed next stands where they stood."""
        self._live.stop()


def open_display(clock: Clock) -> PlainDisplay | BarDisplay:
    """Bars where stderr is a terminal, else lines."""
    return BarDisplay(clock) if sys.stderr.isatty() else PlainDisplay()
