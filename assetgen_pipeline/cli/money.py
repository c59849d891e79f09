"""Verbs on money: costs and budgets."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import timedelta

import click

from assetgen_pipeline.cli.operator import operator_name
from assetgen_pipeline.cli.output import json_option, print_json, print_table
from assetgen_pipeline.domain.bucket_layout import checked_owner
from assetgen_pipeline.domain.budget import BudgetDay
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.status import BatchStatus
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.reserve_budget import scarcest_day
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.ledger import open_ledger
from assetgen_pipeline.wiring.look_back import look_back

_COLUMNS = {
    "owner": "owner",
    "provider": "provider",
    "model": "model",
    "day": "dt",
    "batch": "batch_id",
    "status": "status",
    "lane": "lane",
}


@click.command()
@click.option(
    "--by",
    type=click.Choice(list(_COLUMNS)),
    default="owner",
    show_default=True,
    help="What each line of the answer sums up.",
)
@click.option(
    "--since", default="30d", show_default=True, help="A span (12h, 30d) or a date (2026-11-01)."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="How the answer is printed.",
)
@json_option
def costs(by: str, since: str, form: str, *, as_json: bool) -> int:
    """What was spent, from the cost facts; `dt` is the budget day."""
    from assetgen_pipeline.adapters.cost_queries import summarize

    settings = load_settings()
    try:
        first, today = look_back(since, settings)
    except ValueError as error:
        message = f"--since: {error}"
        raise click.UsageError(message) from error
    with open_object_store(settings) as store:
        rows = summarize(store, _COLUMNS[by], since=first, today=today)
    if as_json or form == "json":
        print_json(rows)
    elif form == "csv":
        click.echo(_as_csv(rows), nl=False)
    elif rows:
        print_table(rows)
    else:
        click.echo(f"nothing spent since {first}")
    return 0


def _as_csv(rows: Sequence[Mapping[str, object]]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


@click.group()
def budget() -> None:
    """Show budgets, or set an owner's daily limit."""


@budget.command()
@click.argument("owner", required=False)
@json_option
def show(owner: str | None, *, as_json: bool) -> int:
    """Today's budget of OWNER; of every owner in use, and the deployment's, when none is named."""
    with open_ledger(load_settings()) as ledger:
        if owner is not None:
            _print_day(ledger.day(checked_owner(owner)), as_json=as_json)
            return 0
        days, project = ledger.days(), ledger.project_day()
    rows = [_day_document(day) for day in days]
    if as_json:
        whole = _day_document(project) if project is not None else None
        print_json({"owners": rows, "project": whole})
        return 0
    if project is not None:
        rows.append(_day_document(project) | {"owner": "(deployment)"})
    print_table(rows)
    if not rows:
        click.echo("no owner has reserved anything today or has a limit of its own")
    return 0


@budget.command(name="set")
@click.argument("owner")
@click.option("--daily-usd", required=True, help="The new daily limit in dollars.")
@json_option
def set_limit(owner: str, daily_usd: str, *, as_json: bool) -> int:
    """Change the daily limit of OWNER, today's included.

    Today's goes no lower than what is held and spent already; the days that follow do.
    """
    try:
        limit = Money.exactly(daily_usd)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    settings = load_settings()
    with open_ledger(settings) as ledger:
        day = ledger.set_limit(checked_owner(owner), limit, set_by=operator_name())
    _print_day(day, as_json=as_json)
    if not as_json:
        click.echo(f"{'in force':<12} {_since(day, limit, zone=settings.budget_time_zone)}")
    return 0


def _since(day: BudgetDay, limit: Money, *, zone: str) -> str:
    """From when a new limit is in force, which is tomorrow where today has used more already."""
    if day.limit == limit:
        return f"from now on, {day.budget_date} ({zone}) included"
    tomorrow = day.budget_date + timedelta(days=1)
    return f"{limit} from {tomorrow} ({zone}) on; {day.limit} is held or spent today"


def headroom_line(status: BatchStatus) -> str:
    """Whether a batch that was priced would fit now, and what its owner has left."""
    with open_ledger(load_settings()) as ledger:
        day = scarcest_day(status.owner, ledger=ledger)
    fits = Money.from_usd(status.estimate_usd or "0") <= day.headroom
    left = f"{day.headroom} left of {day.limit} today; resets at {day.resets_at.isoformat()}"
    return ("fits: " if fits else "does not fit: ") + left


def _day_document(day: BudgetDay) -> dict[str, object]:
    return {
        "owner": day.owner,
        "budget_date": day.budget_date.isoformat(),
        "limit_usd": day.limit.usd(),
        "held_usd": day.held.usd(),
        "settled_usd": day.settled.usd(),
        "assumed_usd": day.assumed.usd(),
        "headroom_usd": day.headroom.usd(),
        "resets_at": day.resets_at.isoformat(),
    }


def _print_day(day: BudgetDay, *, as_json: bool) -> None:
    document = _day_document(day)
    if as_json:
        print_json(document)
        return
    for name, value in document.items():
        click.echo(f"{name:<12} {value}")
