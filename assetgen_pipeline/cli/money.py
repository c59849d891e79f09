"""Verbs on money: costs, budgets, the ledger's invariants."""

import csv
import io
from datetime import timedelta

import click

from assetgen_pipeline import wiring
from assetgen_pipeline.cli.output import json_option, print_json, print_table
from assetgen_pipeline.domain.bucket_layout import checked_owner
from assetgen_pipeline.domain.budget import BudgetDay
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.settings import duration, load_settings

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
@click.option("--by", type=click.Choice(list(_COLUMNS)), default="owner", show_default=True)
@click.option("--since", default="30d", show_default=True, help="How far back: 12h, 30d, …")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table")
@json_option
def costs(by: str, since: str, form: str, *, as_json: bool) -> int:
    """What was spent, from the cost facts; `dt` is the budget day."""
    from assetgen_pipeline.adapters.parquet_costs import ParquetCostFacts

    settings = load_settings()
    span = duration(since)
    if not isinstance(span, timedelta):
        raise click.UsageError("--since takes a number and s, m, h or d: 30d")
    first = (wiring.open_clock().now() - span).date()
    with wiring.open_object_store(settings) as store:
        rows = ParquetCostFacts(store).summarize(_COLUMNS[by], since=first)
    if as_json or form == "json":
        print_json(rows)
    elif form == "csv":
        click.echo(_as_csv(rows), nl=False)
    elif rows:
        print_table(rows)
    else:
        click.echo(f"nothing spent since {first}")
    return 0


def _as_csv(rows: list[dict[str, object]]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


@click.group()
def budget() -> None:
    """Show or set an owner's daily limit."""


@budget.command()
@click.argument("owner")
@json_option
def show(owner: str, *, as_json: bool) -> int:
    """Today's budget of OWNER."""
    with wiring.open_ledger(load_settings()) as ledger:
        _print_day(ledger.day(checked_owner(owner)), as_json=as_json)
    return 0


@budget.command(name="set")
@click.argument("owner")
@click.option("--daily-usd", required=True, help="The new daily limit in dollars.")
@json_option
def set_limit(owner: str, daily_usd: str, *, as_json: bool) -> int:
    """Change the daily limit of OWNER."""
    import getpass

    try:
        limit = Money.from_usd(daily_usd)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with wiring.open_ledger(load_settings()) as ledger:
        day = ledger.set_limit(checked_owner(owner), limit, set_by=getpass.getuser())
        _print_day(day, as_json=as_json)
    return 0


def _print_day(day: BudgetDay, *, as_json: bool) -> None:
    document = {
        "owner": day.owner,
        "budget_date": day.budget_date.isoformat(),
        "limit_usd": day.limit.usd(),
        "held_usd": day.held.usd(),
        "settled_usd": day.settled.usd(),
        "assumed_usd": day.assumed.usd(),
        "headroom_usd": day.headroom.usd(),
        "resets_at": day.resets_at.isoformat(),
    }
    if as_json:
        print_json(document)
        return
    for name, value in document.items():
        click.echo(f"{name:<12} {value}")


@click.group()
def ledger() -> None:
    """Verify the ledger's invariants."""


@ledger.command()
@json_option
def verify(*, as_json: bool) -> int:
    """Check every invariant of the books; exit 1 where one is broken."""
    with wiring.open_ledger(load_settings()) as books:
        checks = books.verify()
    if as_json:
        print_json(
            [
                {"name": c.name, "sentence": c.sentence, "violations": list(c.violations)}
                for c in checks
            ]
        )
    for check in [] if as_json else checks:
        state = "BROKEN" if check.violations else "ok"
        click.echo(f"{state:<7} {check.name:<4} {check.sentence}")
        for violation in check.violations:
            click.echo(f"          {violation}")
    return 1 if any(check.violations for check in checks) else 0
