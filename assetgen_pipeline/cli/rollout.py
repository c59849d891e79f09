"""Verbs on the rollout of a candidate model: show, set, rollback."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import click

from assetgen_pipeline.cli.operator import operator_name
from assetgen_pipeline.cli.output import json_option, print_json
from assetgen_pipeline.domain.lanes import SLOW, TYPICAL, LaneFigures, Verdict
from assetgen_pipeline.domain.rollout import (
    ROLLOUT_OBJECT,
    Candidate,
    Rollout,
    RolloutInvalid,
    WantedRollout,
    roll_back,
    set_rollout,
)
from assetgen_pipeline.ports.ledger import Ledger
from assetgen_pipeline.ports.object_store import ObjectStore
from assetgen_pipeline.settings import Settings, load_settings
from assetgen_pipeline.stages.rollout import (
    StoredRollout,
    judge_rollout,
    read_rollout,
    write_rollout,
)
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.clock import open_clock
from assetgen_pipeline.wiring.deployment import open_catalogue
from assetgen_pipeline.wiring.ledger import open_ledger


@click.group()
def rollout() -> None:
    """Send some owners' batches to a candidate model."""


@rollout.command()
@json_option
def show(*, as_json: bool) -> int:
    """The rollout, what its lanes did, and who changed it."""
    settings = load_settings()
    with _opened(settings) as (store, ledger):
        stored = read_rollout(store)
        verdict = judge_rollout(stored, ledger=ledger)
    if as_json:
        print_json(_document(stored.rollout, verdict, settings))
    else:
        _print(stored.rollout, verdict, settings)
    return 0


@rollout.command(name="set")
@click.option("--provider", required=True, help="The candidate's provider.")
@click.option("--model", required=True, help="The candidate's model, one of the catalogue.")
@click.option("--percent", required=True, type=click.IntRange(0, 100), help="Share of the owners.")
@click.option(
    "--owner", "owners", multiple=True, help="An owner that is always in; may be repeated."
)
@click.option("--force", is_flag=True, help="Over time and figures; records who did.")
@click.option("--dry-run", is_flag=True, help="Say what would be written; write nothing.")
@json_option
def set_(
    provider: str,
    model: str,
    percent: int,
    owners: tuple[str, ...],
    *,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Send PERCENT of the owners to a model; raised only where time and figures carry it."""
    settings = load_settings()
    open_catalogue(settings).price(provider, model)
    wanted = WantedRollout(
        candidate=Candidate(provider=provider, model=model),
        percent=percent,
        owners=owners,
        by=operator_name(),
        force=force,
    )
    with _opened(settings) as (store, ledger):
        stored = read_rollout(store)
        verdict = judge_rollout(stored, ledger=ledger)
        changed = set_rollout(
            stored.rollout,
            wanted,
            verdict=verdict,
            known_since=stored.written_at,
            shortest=timedelta(hours=settings.canary_min_hours),
            now=open_clock().now(),
        )
        if not dry_run:
            write_rollout(changed, generation=stored.generation, store=store)
    _print_change(changed, verdict, settings, dry_run=dry_run, as_json=as_json)
    return 0


@rollout.command()
@click.option("--dry-run", is_flag=True, help="Say what would be written; write nothing.")
@json_option
def rollback(*, dry_run: bool, as_json: bool) -> int:
    """Every new batch to the stable model, at once; batches under way finish where they are."""
    settings = load_settings()
    with open_object_store(settings) as store:
        stored = _read_or_replace(store)
        changed = roll_back(stored.rollout, by=operator_name(), now=open_clock().now())
        if not dry_run:
            write_rollout(changed, generation=stored.generation, store=store)
    _print_change(changed, None, settings, dry_run=dry_run, as_json=as_json)
    return 0


def _read_or_replace(store: ObjectStore) -> StoredRollout:
    """The rollout, or none in the place of one that nobody can read."""
    try:
        return read_rollout(store)
    except RolloutInvalid as error:
        click.echo(f"replaced: {error}", err=True)
        info = store.stat(ROLLOUT_OBJECT)
        generation = info.generation if info is not None else 0
        return StoredRollout(rollout=Rollout(), generation=generation, written_at=None)


@contextmanager
def _opened(settings: Settings) -> Iterator[tuple[ObjectStore, Ledger]]:
    with open_object_store(settings) as store, open_ledger(settings) as ledger:
        yield store, ledger


def _print_change(
    rollout: Rollout,
    verdict: Verdict | None,
    settings: Settings,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    if as_json:
        print_json({"dry_run": dry_run, **_document(rollout, verdict, settings)})
        return
    if dry_run:
        click.echo("nothing is changed; then in force:")
    _print(rollout, verdict, settings)


def _may_rise_at(rollout: Rollout, settings: Settings) -> str | None:
    since = rollout.unchanged_since
    if since is None or not rollout.is_running:
        return None
    return (since + timedelta(hours=settings.canary_min_hours)).isoformat()


def _document(rollout: Rollout, verdict: Verdict | None, settings: Settings) -> dict[str, object]:
    since = rollout.unchanged_since
    return rollout.model_dump(mode="json") | {
        "unchanged_since": since.isoformat() if since is not None else None,
        "may_rise_at": _may_rise_at(rollout, settings),
        "figures": _figures(verdict),
        "carries": verdict.carries if verdict is not None else None,
        "against": list(verdict.against) if verdict is not None else [],
    }


def _print(rollout: Rollout, verdict: Verdict | None, settings: Settings) -> None:
    if rollout.candidate is None:
        click.echo("no candidate: every batch is stable")
        return
    who = f" and {', '.join(rollout.owners)}" if rollout.owners else ""
    named = f"{rollout.candidate.provider}/{rollout.candidate.model}"
    click.echo(f"{named}: {rollout.percent} % of the owners{who}")
    may_rise_at = _may_rise_at(rollout, settings)
    if may_rise_at is not None:
        click.echo(f"may be raised from {may_rise_at}")
    _print_verdict(verdict)
    for change in rollout.history:
        forced = f", forced over: {'; '.join(change.forced_over)}" if change.forced_over else ""
        click.echo(
            f"{change.at.isoformat()}  {change.action} {change.percent} %  by {change.by}{forced}"
        )


def _print_verdict(verdict: Verdict | None) -> None:
    if verdict is None:
        return
    for lane in (verdict.stable, verdict.candidate):
        typical, slow = lane.latency_ms(TYPICAL), lane.latency_ms(SLOW)
        waited = "" if slow is None else f", half within {typical} ms, {SLOW} % within {slow} ms"
        click.echo(
            f"{lane.lane:<9}  {lane.images} images, {lane.failure_rate:.1%} failed,"
            f" {lane.cost_per_image} per image{waited}"
        )
    click.echo(
        "the figures carry a promotion"
        if verdict.carries
        else f"against a promotion: {'; '.join(verdict.against)}"
    )


def _figures(verdict: Verdict | None) -> list[dict[str, object]]:
    lanes: tuple[LaneFigures, ...] = ()
    if verdict is not None:
        lanes = (verdict.stable, verdict.candidate)
    return [
        {
            "lane": lane.lane,
            "images": lane.images,
            "delivered": lane.delivered,
            "failure_rate": round(lane.failure_rate, 6),
            "cost_usd": lane.cost.usd(),
            "cost_per_image_usd": lane.cost_per_image.usd(),
            "latency_p50_ms": lane.latency_ms(TYPICAL),
            "latency_p95_ms": lane.latency_ms(SLOW),
        }
        for lane in lanes
    ]
