"""The verb that signs links anew: of one batch, or of all that end soon."""

from collections.abc import Sequence
from datetime import timedelta

import click

from assetgen_pipeline.cli.batches import checked_batch_id
from assetgen_pipeline.cli.output import json_option, print_json
from assetgen_pipeline.cli.running import Stopped, noted_signals
from assetgen_pipeline.domain.delivery import LONGEST_LIFE
from assetgen_pipeline.domain.errors import AssetgenError, BatchBusy, BatchNotFound
from assetgen_pipeline.domain.status import is_terminal
from assetgen_pipeline.setting_forms import duration
from assetgen_pipeline.settings import Settings, load_settings
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.stages.expiry_index import indexed_within
from assetgen_pipeline.stages.refresh_published import Refreshed
from assetgen_pipeline.stages.refresh_urls import read_links
from assetgen_pipeline.stages.services import Services
from assetgen_pipeline.wiring.services import open_all

_DONE = {"refreshed", "fresh", "lapsed", "gone", "running"}


def _within(ctx: click.Context, param: click.Parameter, value: str | None) -> timedelta | None:
    """A duration that no link outlives."""
    if value is None:
        return None
    try:
        found = duration(value)
    except OverflowError:
        found = None
    if isinstance(found, timedelta) and found <= LONGEST_LIFE:
        return found
    message = f"{value!r} is not a duration up to 7d, such as 30m or 24h"
    raise click.BadParameter(message, ctx=ctx, param=param)


@click.command("refresh-urls")
@click.argument("batch", required=False)
@click.option(
    "--expiring",
    metavar="TIME",
    callback=_within,
    help="Instead of one batch, every batch with links that end within this time: 24h.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be signed; sign nothing.")
@json_option
def refresh_urls(
    batch: str | None, *, expiring: timedelta | None, dry_run: bool, as_json: bool
) -> int:
    """Sign the links of BATCH anew, or of all batches whose links end soon."""
    if (batch is None) == (expiring is None):
        raise click.UsageError("name a BATCH, or give --expiring 24h")
    settings = load_settings()
    with open_all(settings) as services:
        if batch is not None:
            planned = [_published(checked_batch_id(batch), services=services)]
        else:
            planned = _expiring(expiring or timedelta(0), services=services)
    done = planned if dry_run else _refresh([one.batch_id for one in planned], settings)
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "batches": [one.model_dump(mode="json", exclude={"cause"}) for one in done],
            }
        )
    for one in [] if as_json else done:
        click.echo(_line(one, dry_run=dry_run))
    if not done and not as_json:
        click.echo("no links end that soon")
    wanted = {"refreshed"} if batch is not None and not dry_run else _DONE
    return 0 if all(one.result in wanted for one in done) else 1


def _refresh(batch_ids: Sequence[str], settings: Settings) -> list[Refreshed]:
    if not batch_ids:
        return []
    from assetgen_pipeline.defs import delivery_control

    with noted_signals() as noted:
        try:
            return delivery_control.refresh_links(batch_ids, settings)
        except (AssetgenError, KeyboardInterrupt) as error:
            number = noted()
            if number:
                raise Stopped(number) from error
            raise


def _published(batch_id: str, *, services: Services) -> Refreshed:
    """One batch that has results to sign."""
    status = read_status(batch_id, store=services.store)
    if not is_terminal(status.state):
        message = f"{batch_id} is {status.state.value}; its own run signs its links"
        raise BatchBusy(message)
    links = read_links(batch_id, services=services)
    if links is None:
        message = f"{batch_id} is {status.state.value} and has no results with links"
        raise BatchNotFound(message)
    return Refreshed(
        batch_id=batch_id,
        result="fresh",
        urls=links.urls,
        signer=links.signer,
        old_expires_at=links.expires_at,
        expires_at=links.expires_at,
    )


def _expiring(left: timedelta, *, services: Services) -> list[Refreshed]:
    """Every batch within the retention whose links end within `left`."""
    now = services.clock.now()
    found = []
    for batch_id, entries in indexed_within(left, now, store=services.store).items():
        life = max((entry.life for entry in entries), key=lambda life: life.expires_at)
        if life.is_retained(now, services.urls):
            end = life.expires_at.isoformat()
            found.append(
                Refreshed(batch_id=batch_id, result="fresh", old_expires_at=end, expires_at=end)
            )
    return found


def _line(one: Refreshed, *, dry_run: bool) -> str:
    if dry_run:
        return f"would sign  {one.batch_id}  links end {one.old_expires_at or 'never'}"
    if one.result == "refreshed":
        return f"{one.result:<11} {one.batch_id}  {one.urls} links until {one.expires_at}"
    return f"{one.result:<11} {one.batch_id}" + (f"  {one.code}" if one.code else "")
