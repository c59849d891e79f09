"""How commands print: one JSON document, or lines and tables for people."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from assetgen_pipeline.domain.status import BatchState, BatchStatus, exit_code

json_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--json", "as_json", is_flag=True, help="One JSON document on stdout."
)

_COLOURS = {
    BatchState.COMPLETED: "green",
    BatchState.PRICED: "green",
    BatchState.COMPLETED_WITH_FAILURES: "yellow",
    BatchState.CANCELLED: "yellow",
    BatchState.REFUSED: "red",
    BatchState.REJECTED: "red",
    BatchState.FAILED: "red",
}


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


def status_line(status: BatchStatus) -> str:
    """One line that says how a batch stands."""
    images = status.images
    state = click.style(status.state.value.ljust(12), fg=_COLOURS.get(status.state, "cyan"))
    parts = [state, status.batch_id]
    if images.requested:
        parts.append(f"{images.delivered}/{images.requested} images")
    elif status.rows:
        parts.append(f"{status.rows} rows")
    if images.failed or images.blocked or images.not_attempted:
        parts.append(
            f"({images.failed} failed, {images.blocked} blocked,"
            f" {images.not_attempted} not attempted)"
        )
    if status.state is BatchState.PRICED:
        parts.append(f"at most ${status.estimate_usd}")
    elif status.spent_usd:
        parts.append(f"${status.spent_usd}")
    return "  ".join(parts)


def print_problem(status: BatchStatus) -> None:
    """Say what ended a batch, line by line."""
    problem = status.problem
    if not problem:
        return
    click.echo(f"  {problem['title']}: {problem['detail']}")
    errors = problem.get("errors")
    for error in errors if isinstance(errors, list) else []:
        where = f"line {error['line']}" + (f", {error['column']}" if error["column"] else "")
        click.echo(f"  {where}: {error['detail']}")
    click.echo(f"  fix: {problem.get('fix', '')}")


def finish(status: BatchStatus, *, as_json: bool) -> int:
    """Print how a batch ended; the exit code that its state means (0 while it runs)."""
    if as_json:
        print_json(status.model_dump(mode="json"))
    else:
        click.echo(status_line(status))
        print_problem(status)
    return exit_code(status.state) or 0
