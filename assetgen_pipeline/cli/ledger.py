"""Verbs on the ledger's books: verify, recover, reconcile, backup, restore."""

from pathlib import Path
from urllib.parse import urlsplit

import click

from assetgen_pipeline.cli.confirming import confirm, yes_option
from assetgen_pipeline.cli.output import json_option, print_json, print_table
from assetgen_pipeline.domain.budget import AttemptRecord, InvariantCheck
from assetgen_pipeline.domain.errors import AssetgenError, StorageUnavailable
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.ports.ledger import Ledger
from assetgen_pipeline.settings import Settings, load_settings
from assetgen_pipeline.stages.ledger_completeness import check_completeness, unchecked
from assetgen_pipeline.stages.recover_holds import OVERDUE_SENTENCE
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.clock import open_clock
from assetgen_pipeline.wiring.ledger import ledger_url, open_ledger, unchecked_ledger

_SHORTEST_ID = 8


class RunsUnderWay(AssetgenError):
    """A restore would pull the books from under runs that spend."""

    code = "runs-live"
    fix = "Stop them (`assetgen pause`, `assetgen cancel BATCH`), or add --force."


class AttemptNotFound(AssetgenError):
    """No assumed attempt has this id, or more than one begins with it."""

    code = "attempt-not-found"
    fix = "`assetgen ledger reconcile` lists the attempts whose bill nobody knows."


@click.group()
def ledger() -> None:
    """Verify, recover, reconcile, back up and restore the ledger."""


@ledger.command()
@json_option
def verify(*, as_json: bool) -> int:
    """Check the invariants I1 to I10; exit 1 where one is broken or cannot be checked."""
    settings = load_settings()
    with open_ledger(settings) as books:
        checks = [*books.verify(), _completeness(settings, books), _open_holds(settings, books)]
    checks.sort(key=lambda check: int(check.name.removeprefix("I")))
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


def _completeness(settings: Settings, books: Ledger) -> InvariantCheck:
    try:
        with open_object_store(settings) as store:
            return check_completeness(store=store, ledger=books)
    except StorageUnavailable as error:
        return unchecked(error)


def _open_holds(settings: Settings, books: Ledger) -> InvariantCheck:
    holds = books.open_holds()
    if not holds:
        # Loading Dagster takes seconds, and there is nothing to ask it.
        return InvariantCheck(name="I10", sentence=OVERDUE_SENTENCE, violations=())
    from assetgen_pipeline.defs import control

    return control.check_open_holds(settings, holds, open_clock().now())


@ledger.command()
@click.option(
    "--unknown",
    is_flag=True,
    help="Also holds of runs that nobody here knows. Only when nothing else uses this ledger.",
)
@json_option
def recover(*, unknown: bool, as_json: bool) -> int:
    """Free what dead runs hold: their calls in flight are booked at the ceiling."""
    from assetgen_pipeline.defs import control

    done = control.recover_dead(load_settings(), also_unknown=unknown)
    holds = [
        {
            "batch_id": found.hold.batch_id,
            "owner": found.hold.owner,
            "run_id": found.hold.run_id,
            "run": found.fate.value,
            "amount_usd": found.hold.amount.usd(),
            "released_usd": None if found.released is None else found.released.usd(),
        }
        for found in done.holds
    ]
    if as_json:
        print_json({"ended_runs": list(done.ended_runs), "holds": holds})
        return 0
    for run_id in done.ended_runs:
        click.echo(f"ended   run {run_id}: its process is gone")
    for hold in holds:
        if hold["released_usd"] is not None:
            click.echo(f"expired {hold['batch_id']}: ${hold['released_usd']} released")
        else:
            click.echo(f"left    {hold['batch_id']}: its run is {hold['run']}")
    if not done.ended_runs and not holds:
        click.echo("no open hold")
    return 0


@ledger.command()
@click.option("--attempt", metavar="ID", help="The attempt, or the first 8 or more characters.")
@click.option("--cost", metavar="USD", help="What the provider's bill says that it cost.")
@click.option("--void", is_flag=True, help="The provider's bill does not list it.")
@json_option
def reconcile(attempt: str | None, cost: str | None, *, void: bool, as_json: bool) -> int:
    """List the attempts whose bill nobody knows, or settle one of them."""
    settings = load_settings()
    if attempt is None:
        if cost is not None or void:
            raise click.UsageError("--cost and --void need --attempt")
        with open_ledger(settings) as books:
            _print_assumed(books.assumed_attempts(), as_json=as_json)
        return 0
    if (cost is None) != void:
        raise click.UsageError("--attempt takes either --cost or --void")
    try:
        actual = Money.exactly(cost) if cost is not None else None
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with open_ledger(settings) as books:
        found = _assumed(books, attempt)
        books.reconcile(found.attempt_id, actual)
    _publish_correction(settings, found.batch_id)
    text = "not billed" if actual is None else f"cost {actual}"
    if as_json:
        print_json(_document(found) | {"cost_usd": None if actual is None else actual.usd()})
    else:
        click.echo(f"settled {found.attempt_id[:12]} of {found.batch_id}: {text}")
    return 0


def _publish_correction(settings: Settings, batch_id: str) -> None:
    from assetgen_pipeline.stages.report_costs import report_costs
    from assetgen_pipeline.wiring.services import open_all

    try:
        with open_all(settings) as services:
            report_costs(batch_id, services=services)
    except StorageUnavailable as error:
        click.echo(f"booked; the cost facts follow with the next daily report: {error}", err=True)


def _assumed(books: Ledger, wanted: str) -> AttemptRecord:
    found = [
        one
        for one in books.assumed_attempts()
        if len(wanted) >= _SHORTEST_ID and one.attempt_id.startswith(wanted)
    ]
    if len(found) != 1:
        message = f"{len(found) or 'no'} assumed attempts begin with {wanted}"
        raise AttemptNotFound(message)
    return found[0]


def _document(one: AttemptRecord) -> dict[str, object]:
    return {
        "attempt_id": one.attempt_id,
        "batch_id": one.batch_id,
        "scene_id": one.scene_id,
        "variant": one.variant,
        "provider": one.provider,
        "model": one.model,
        "ceiling_usd": one.ceiling.usd(),
        "sent_at": one.intent_at.isoformat(),
        "budget_date": one.budget_date.isoformat(),
        "code": one.code,
    }


def _print_assumed(found: list[AttemptRecord], *, as_json: bool) -> None:
    rows = [_document(one) for one in found]
    if as_json:
        print_json(rows)
    elif rows:
        print_table([row | {"attempt_id": str(row["attempt_id"])[:12]} for row in rows])
    else:
        click.echo("every bill is known")


@ledger.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
def backup(file: Path, *, as_json: bool) -> int:
    """Copy the ledger into FILE, consistently, while it is in use."""
    with open_ledger(load_settings()) as books:
        books.backup(file)
    if as_json:
        print_json({"backup": str(file), "bytes": file.stat().st_size})
    else:
        click.echo(f"written {file}, {file.stat().st_size} bytes")
    return 0


@ledger.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--force", is_flag=True, help="Although runs are under way.")
@yes_option
@json_option
def restore(file: Path, *, force: bool, yes: bool, as_json: bool) -> int:
    """Replace the ledger's content by the backup in FILE; what was there is kept beside it.

    On a terminal it asks before it does.
    """
    from assetgen_pipeline.defs import control

    settings = load_settings()
    live = [] if force else control.live_runs(settings)
    if live:
        message = f"{len(live)} runs are under way: {', '.join(live)}"
        raise RunsUnderWay(message)
    confirm(lambda: f"Replace the books in {_place(settings)} by those in {file}?", yes=yes)
    with unchecked_ledger(settings) as books:
        kept = books.restore(file)
    with open_ledger(settings) as books:
        broken = [check.name for check in books.verify() if check.violations]
    if as_json:
        print_json({"restored": str(file), "kept": str(kept) if kept else None, "broken": broken})
    else:
        click.echo(f"restored {file}" + (f"; what was there is in {kept}" if kept else ""))
        click.echo(f"broken: {', '.join(broken)}" if broken else "every invariant holds")
        click.echo("next: assetgen ledger recover, then assetgen ledger verify")
    return 1 if broken else 0


def _place(settings: Settings) -> str:
    """Where the ledger is, without the password that its URL may hold."""
    url = ledger_url(settings)
    if url.startswith("sqlite"):
        return url.removeprefix("sqlite:///")
    parts = urlsplit(url)
    return f"{parts.hostname or 'this machine'}{parts.path}"
