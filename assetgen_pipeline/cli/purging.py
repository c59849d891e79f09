"""The verb that deletes a batch: its objects and its partition, never its books."""

import click

from assetgen_pipeline.cli.batches import checked_batch_id
from assetgen_pipeline.cli.confirming import confirm, yes_option
from assetgen_pipeline.cli.output import counted, json_option, print_json
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.purge_batch import Purged

_WORDS = {"outbox": "result file", "index": "index object"}


@click.command()
@click.argument("batch")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted; delete nothing.")
@yes_option
@json_option
def purge(batch: str, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Delete the objects of BATCH; its ledger rows and cost facts stay.

    Images and references that another batch of the owner uses stay too. Refused while the
    batch, or another of its owner, is under way. On a terminal it says what it will delete, and
    asks.
    """
    from assetgen_pipeline.defs import delivery_control

    settings, batch_id = load_settings(), checked_batch_id(batch)

    def question() -> str:
        planned = delivery_control.purge(batch_id, settings, dry_run=True)
        return f"Delete {_objects(planned) or 'what is left'} of {batch_id}?"

    confirm(question, yes=yes or dry_run)
    purged = delivery_control.purge(batch_id, settings, dry_run=dry_run)
    if as_json:
        print_json({"dry_run": dry_run, **purged.model_dump(mode="json")})
        return 0
    verb = "would delete" if dry_run else "deleted"
    click.echo(f"{verb} {_objects(purged) or 'nothing: no objects are left'}")
    if purged.kept_shared:
        click.echo(f"kept    {counted(purged.kept_shared, 'object')} that other batches use")
    click.echo("kept    ledger and cost facts")
    return 0


def _objects(purged: Purged) -> str:
    """How many of each kind; empty for none."""
    return ", ".join(
        counted(n, _WORDS.get(kind, kind.removesuffix("s")))
        for kind, n in purged.deleted.items()
        if n
    )
