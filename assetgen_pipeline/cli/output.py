"""How commands print: one JSON document, or lines and tables for people."""

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from assetgen_pipeline.domain.problems import fix_naming
from assetgen_pipeline.domain.status import BatchState, BatchStatus, exit_code, is_terminal

json_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--json", "as_json", is_flag=True, help="One JSON document on stdout."
)


class Seconds(click.FloatRange):
    """Seconds within a range; `nan`, which compares with nothing, is in none."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read and judge it."""
        seconds: float = super().convert(value, param, ctx)  # type: ignore[arg-type]
        if math.isnan(seconds):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return seconds


_COLOURS = {
    BatchState.COMPLETED: "green",
    BatchState.PRICED: "green",
    BatchState.COMPLETED_WITH_FAILURES: "yellow",
    BatchState.CANCELLED: "yellow",
    BatchState.REFUSED: "red",
    BatchState.REJECTED: "red",
    BatchState.FAILED: "red",
}
_SPENDS_NOTHING = {BatchState.PRICED, BatchState.AWAITING_APPROVAL}


def print_json(document: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")


def print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows under their column names, aligned, as plain text."""
    if not rows:
        return
    names = list(rows[0])
    widths = {name: max(len(name), *(len(str(row[name])) for row in rows)) for name in names}
    for row in [{name: name for name in names}, *rows]:
        click.echo("  ".join(str(row[name]).ljust(widths[name]) for name in names).rstrip())


def printable(text: str) -> str:
    """Text from the bucket as a terminal may have it: nothing in it can steer the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def counted(number: int, thing: str) -> str:
    """A number of things, as people say it."""
    return f"{number} {thing}" + ("" if number == 1 else "s")


def status_line(status: BatchStatus) -> str:
    """One line that says how a batch stands."""
    images = status.images
    state = click.style(status.state.value.ljust(12), fg=_COLOURS.get(status.state, "cyan"))
    parts = [state, status.batch_id]
    if status.state in _SPENDS_NOTHING and images.requested and not images.delivered:
        parts.append(counted(images.requested, "image"))
    elif images.requested:
        parts.append(f"{images.delivered}/{images.requested} images")
    elif status.rows:
        parts.append(counted(status.rows, "row"))
    # While a batch is under way, what is not attempted is only still to come.
    ended = is_terminal(status.state) and status.state is not BatchState.PRICED
    left = images.not_attempted if ended else 0
    if images.failed or images.blocked or left:
        rest = f", {left} not attempted" if left else ""
        parts.append(f"({images.failed} failed, {images.blocked} blocked{rest})")
    if status.state in _SPENDS_NOTHING:
        parts.append(f"at most ${status.estimate_usd}")
    elif status.spent_usd:
        parts.append(f"${status.spent_usd}")
    return "  ".join(parts)


def print_problem(status: BatchStatus) -> None:
    """Say what ended a batch, line by line."""
    problem = status.problem
    if not problem:
        return
    found = problem.get("errors")
    errors = found if isinstance(found, list) else []
    if errors:
        # A rejected file's detail is its first problem, which is listed below.
        total = problem.get("errors_total")
        click.echo(f"  {counted(total if isinstance(total, int) else len(errors), 'problem')}")
    else:
        click.echo(printable(f"  {problem.get('code', 'internal')}: {problem['detail']}"))
    for error in errors:
        where = f"line {error['line']}" + (f", {error['column']}" if error["column"] else "")
        click.echo(printable(f"  {where}  {error['code']}: {error['detail']}"))
    if problem.get("rows_that_fit"):
        click.echo(f"  {problem['rows_that_fit']} of its rows would fit now")
    # An earlier release left the batch's name out.
    fix = fix_naming(str(problem.get("fix", "")), status.batch_id)
    click.echo(printable(f"  fix: {fix}"))


def finish(status: BatchStatus, *, as_json: bool) -> int:
    """Print how a batch ended; the exit code that its state means (0 while it runs)."""
    if as_json:
        print_json(status.model_dump(mode="json"))
    else:
        click.echo(status_line(status))
        print_problem(status)
        if status.state is BatchState.PRICED:
            # Dry runs alone need the ledger here.
            from assetgen_pipeline.cli.money import headroom_line

            click.echo(f"  {headroom_line(status)}")
        if status.images.delivered:
            click.echo(f"  results: assetgen results {status.batch_id} -o DIR")
        if status.state is BatchState.AWAITING_APPROVAL:
            click.echo(f"  fix: assetgen approve {status.batch_id}")
    return exit_code(status.state) or 0
