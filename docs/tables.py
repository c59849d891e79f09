"""Write the generated tables of the docs: `make docs`. A test holds the pages to this.

Commands and settings are read from the code; metadata from what a batch, its dry run, a refresh
of its links and its day materialize, on fakes. Only what stands between the markers is written.
"""

import inspect
import logging
import re
import typing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import click
import dagster as dg

from assetgen_pipeline.cli.app import cli
from assetgen_pipeline.defs.url_refresh import REFRESH_OP, RefreshConfig
from assetgen_pipeline.settings import PREFIX, Settings
from assetgen_pipeline_tests.builders import BATCH_ID, NOW
from assetgen_pipeline_tests.fake_deployment import TWO_ROWS, FakeDeployment

DOCS = Path(__file__).parent
OWN = Settings.__annotations__
_DRY_RUN = "studio.dry.0123abcd"
# What each key says; one word means one thing wherever it stands.
MEANINGS = {
    "already_delivered": "images that stood in the bucket before this run",
    "assumed_usd": "spent for calls whose bill nobody knows, at their ceiling",
    "attempts": "attempts, reuse not counted",
    "budget_date": "the budget day that pays",
    "cause": "why links were signed: `run`, `expiring` or `operator`; `lapsed` where they are given up",
    "contact_sheet": "where it opens for whoever may read the bucket; holds no signature",
    "cost_micros": "spent, assumed attempts included, in millionths of a dollar",
    "cost_per_image_usd": "spent for each delivered image",
    "cost_usd": "spent, assumed attempts included, in dollars, for plots",
    "dagster/partition_row_count": "rows of the asset: of the file, images, groups",
    "deduplication_rate": "share of named references that another row had named already",
    "estimate_micros": "expected cost in millionths of a dollar",
    "estimate_usd": "expected cost in dollars, for plots",
    "failed": "images that failed, or that the provider's content policy refused",
    "generated": "images made in this run",
    "headroom_usd": "of a dry run: what is left of the day",
    "held_micros": "held at worst-case prices, in millionths of a dollar",
    "held_usd": "held at worst-case prices, in dollars, for plots",
    "images": "images with an attempt or a reuse on that day",
    "images_delivered": "images in the results",
    "images_failed": "images that failed, or that the provider's content policy refused",
    "images_not_attempted": "images that nobody asked the provider for",
    "images_requested": "rows times their variants",
    "ledger_entries": "entries of the ledger's day that the sums rest on",
    "limit_usd": "of a dry run: the day's limit",
    "manifest": "the lossless results",
    "mode": "`normal` or `dry_run`",
    "model": "the model of the catalogue",
    "not_attempted": "images that a stop or the budget left out",
    "old_expires_at": "of a refresh: when the links that it replaced end",
    "open_batches": "batches of the day that have not ended",
    "owner": "the budget account",
    "preview": "the first scenes; the first thumbnails, where they fit",
    "price_version": "the prices that the estimate rests on",
    "provider": "who makes the images",
    "references_fetched": "addresses that were had, each counted once",
    "references_named": "references that rows and their packs name",
    "refused_batches": "batches that the day's limit refused",
    "refused_usd": "the most that those asked for",
    "request": "the claimed file",
    "requests": "requests on the network",
    "resets_at": "of a dry run: when the next budget day begins",
    "results_csv": "the results",
    "reused": "images that the owner had already, at cost 0",
    "revalidated": "stored references that their servers call unchanged",
    "rows_failed": "rows that fail without a paid call: a reference is refused, a pack is missing",
    "rows_with_a_reference_dropped": "rows with a reference left out: the same bytes as another, or a seventh",
    "rows_without_a_reference": "rows that go on without one that could not be had",
    "shards": "steps that the images were made in",
    "signer": "who signed",
    "slot_wait_s": "seconds that fetches waited for one of the four slots",
    "unique_urls": "different addresses among the references",
    "urls": "links signed",
    "urls_expire_at": "when they end; empty where they are given up",
}


def table(head, rows):
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _commands(command, context):
    if not isinstance(command, click.Group):
        yield command, context
        return
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        yield from _commands(found, click.Context(found, info_name=name, parent=context))


def _option(option, context):
    names = ", ".join(f"`{name}`" for name in option.opts)
    if isinstance(option.type, click.Choice):
        names += " " + ", ".join(f"`{choice}`" for choice in option.type.choices)
    elif isinstance(option.type, click.types.IntRange | click.types.FloatRange):
        names += f" {option.type.min:g} to {option.type.max:g}"
    default = option.get_default(context)
    shown = (
        f"`{default}`".replace(".0`", "`")
        if isinstance(default, int | float | str) and default
        else "none"
    )
    if option.required:
        shown = "required"
    elif option.is_flag:
        shown = "off"
    return [names, shown, (option.help or "") + (" May be repeated." if option.multiple else "")]


def commands():
    """Every command: its usage, what it does, and its options with their defaults."""
    parts = []
    for command, context in _commands(cli, click.Context(cli, info_name="assetgen")):
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        options = [
            _option(one, context)
            for one in command.params
            if isinstance(one, click.Option) and one.name != "as_json"
        ]
        told = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(command.help))
        parts += [f"### {context.command_path.removeprefix('assetgen ')}", f"`{usage}`", told]
        if options:
            parts.append(table(["option", "default", "what it does"], options))
    return "\n\n".join(parts)


def _default(field):
    match field.default:
        case bool() as switch:
            return str(switch).lower()
        case timedelta() as span:
            units = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
            size, unit = next(one for one in units if span.total_seconds() % one[0] == 0)
            return f"{span.total_seconds() / size:g}{unit}"
        case int() | float() | Decimal() | Path() | str() as value if str(value):
            return str(value).removesuffix(".0")
        case _:
            return "empty"


def settings():
    """Every setting: its variable, its default and what it means."""
    rows = []
    # What the SDKs and the alerts read stands last.
    own = sorted(Settings.model_fields.items(), key=lambda item: item[0] not in OWN)
    for name, field in own:
        choices = typing.get_args(field.annotation)
        literal = all(isinstance(choice, str) for choice in choices) and choices
        told = f" One of {', '.join(f'`{choice}`' for choice in choices)}." if literal else ""
        variable = str(field.validation_alias or PREFIX + name.upper())
        rows.append([f"`{variable}`", _default(field), field.description + told])
    return table(["variable", "default", "what it does"], rows)


def _materialized():
    """The metadata of every event of a batch, its dry run, its refresh and its day, by asset."""
    with dg.DagsterInstance.ephemeral() as instance:
        fakes = FakeDeployment(instance)
        fakes.upload(TWO_ROWS)
        fakes.upload(TWO_ROWS, batch_id=_DRY_RUN, dry_run=True)
        refresh = RefreshConfig(batches=[BATCH_ID], cause="operator")
        results = [
            fakes.run(),
            fakes.run(batch_id=_DRY_RUN),
            fakes.publish_costs(NOW.date().isoformat()),
            fakes.definitions.resolve_job_def("refresh_urls").execute_in_process(
                instance=instance, run_config=dg.RunConfig(ops={REFRESH_OP: refresh})
            ),
        ]
    for event in [event for result in results for event in result.all_events]:
        if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
            yield event.asset_key, event.step_materialization_data.materialization.metadata
        elif event.event_type is dg.DagsterEventType.ASSET_OBSERVATION:
            yield event.asset_key, event.asset_observation_data.asset_observation.metadata


def metadata():
    """Every key that each asset's events carry, with its kind and meaning."""
    seen = {}
    for asset, values in _materialized():
        kinds = seen.setdefault(asset.to_user_string(), {})
        for key, value in values.items():
            kinds[key] = type(value).__name__.removesuffix("MetadataValue").lower()
    used = {key for kinds in seen.values() for key in kinds}
    if used != MEANINGS.keys():
        message = f"keys without a meaning, or meanings of no key: {sorted(used ^ MEANINGS.keys())}"
        raise ValueError(message)
    rows = [
        [f"`{asset}`", f"`{key}`", kind, MEANINGS[key]]
        for asset, kinds in seen.items()
        for key, kind in kinds.items()
    ]
    return table(["asset", "key", "kind", "what it says"], rows)


TABLES = {"commands": commands, "settings": settings, "metadata": metadata}


def written(name):
    """A page as it must read: its own text, with the table as the code has it."""
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    begin, end = "<!-- written by `make docs` -->\n", "\n<!-- end -->"
    before, _old, after = re.split(f"(?<={begin})(.*?)(?={end})", text, flags=re.DOTALL)
    return f"{before}\n{TABLES[name]()}\n{after}"


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    for page in TABLES:
        (DOCS / f"{page}.md").write_text(written(page), encoding="utf-8")
