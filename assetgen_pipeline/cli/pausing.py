"""`assetgen pause` and `resume`: what may not start or go on, by state in the bucket."""

from collections.abc import Callable
from typing import Any, get_args

import click

from assetgen_pipeline.cli.operator import operator_name
from assetgen_pipeline.cli.output import json_option, print_json
from assetgen_pipeline.domain.bucket_layout import checked_owner
from assetgen_pipeline.domain.pauses import Pause, PauseState, Scope
from assetgen_pipeline.settings import Settings, load_settings
from assetgen_pipeline.stages.pausing import change_pauses, read_pauses
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.clock import open_clock

_PROVIDERS = get_args(Settings.model_fields["provider"].annotation)


def _scope_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--all", "everything", is_flag=True, help="Everything."),
        click.option(
            "--provider", type=click.Choice(_PROVIDERS), help="Every batch that pays this provider."
        ),
        click.option("--owner", help="Every batch of this owner."),
    ):
        command = option(command)
    return command


@click.command()
@_scope_options
@click.option("--why", default="", help="The reason, for whoever looks later.")
@click.option("--dry-run", is_flag=True, help="Say what it would change.")
@json_option
def pause(
    owner: str | None,
    provider: str | None,
    why: str,
    *,
    everything: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Pause an owner, a provider or everything; without an option, show what is paused.

    New files stay in the inbox. Running batches stop between two images, give slot and money
    back, and go on after `resume`.
    """
    scope = _scope(owner, provider, everything=everything)
    with open_object_store(load_settings()) as store:
        if scope is None:
            state = read_pauses(store=store)
            _print_state(state, as_json=as_json, dry_run=dry_run)
            return 0
        wanted = Pause(
            scope=scope[0], name=scope[1], by=operator_name(), at=open_clock().now(), why=why
        )
        if dry_run:
            state = read_pauses(store=store).with_pause(wanted)
        else:
            state = change_pauses(lambda known: known.with_pause(wanted), store=store)
    _print_state(state, as_json=as_json, dry_run=dry_run)
    return 0


@click.command()
@_scope_options
@click.option("--dry-run", is_flag=True, help="Say what it would change.")
@json_option
def resume(
    owner: str | None, provider: str | None, *, everything: bool, dry_run: bool, as_json: bool
) -> int:
    """Resume an owner, a provider, or everything that is paused.

    Suspended batches go on within seconds where a daemon or the command that ran them is
    alive; else `retry` finishes them.
    """
    scope = _scope(owner, provider, everything=everything)
    if scope is None:
        message = "say what: --owner O, --provider P or --all"
        raise click.UsageError(message)
    with open_object_store(load_settings()) as store:
        if dry_run:
            state = read_pauses(store=store).without(*scope)
        else:
            state = change_pauses(lambda known: known.without(*scope), store=store)
    _print_state(state, as_json=as_json, dry_run=dry_run)
    return 0


def _scope(
    owner: str | None, provider: str | None, *, everything: bool
) -> tuple[Scope, str] | None:
    """The one thing that the options name, `None` where they name none.

    Raises:
        click.UsageError: they name several.
        OwnerInvalid: not the name of an owner.
    """
    named: list[tuple[Scope, str]] = []
    if owner is not None:
        named.append(("owner", checked_owner(owner)))
    if provider is not None:
        named.append(("provider", provider))
    if everything:
        named.append(("all", ""))
    if len(named) > 1:
        message = "--owner, --provider and --all exclude one another"
        raise click.UsageError(message)
    return named[0] if named else None


def _print_state(state: PauseState, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        print_json({"dry_run": dry_run, **state.model_dump(mode="json")})
        return
    if dry_run:
        click.echo("nothing is changed; then in force:")
    for one in state.pauses:
        click.echo(one.sentence())
    if not state.pauses:
        click.echo("nothing is paused")
