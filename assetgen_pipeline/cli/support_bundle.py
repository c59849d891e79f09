"""`assetgen support-bundle`: everything that explains a batch in one file, and no secret in it.

Every text is scrubbed where it enters the file. Result files are left out: signed links
belong there, and images and prompts that nobody asked for do not belong here.
"""

import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from importlib.metadata import distributions
from pathlib import Path

import click

from assetgen_pipeline.cli.batches import checked_batch_id
from assetgen_pipeline.cli.doctor import examine
from assetgen_pipeline.cli.metrics import gather
from assetgen_pipeline.cli.output import json_option, print_json
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.errors import BatchNotFound
from assetgen_pipeline.domain.metrics import exposition
from assetgen_pipeline.domain.scrubbing import scrub
from assetgen_pipeline.settings import Settings, load_settings, public_values, secret_values
from assetgen_pipeline.stages.stop_batch import find_drop
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.clock import open_clock
from assetgen_pipeline.wiring.ledger import open_ledger

_TAIL_BYTES = 500_000
_MOST_ARTIFACTS = 500
_ABOUT = """What assetgen knows of batch {batch}, collected {now}.

status, problem, manifest   as they stand in the bucket
artifacts/                  what each asset handed the next (prompts are in them)
ledger.json                 holds, attempts, decisions and journal entries of the batch
runs/                       every event of its runs
logs/                       the ends of this machine's logs
doctor.json, metrics.prom   how the deployment is now
settings.json               secrets only as set or unset
versions.txt                what is installed

Signatures, keys, tokens and the query of every URL are blacked out. Result files, images and
the contact sheet are left out. What could not be collected has an .error.txt in its place.
"""

Part = Callable[[], Iterator[tuple[str, str]]]


@click.command(name="support-bundle")
@click.argument("batch")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file; `BATCH.support.zip` by default.",
)
@json_option
def support_bundle(batch: str, output: Path | None, *, as_json: bool) -> int:
    """Collect what explains BATCH into one zip file without secrets."""
    settings, batch_id = load_settings(), checked_batch_id(batch)
    target = output or Path(f"{batch_id}.support.zip")
    if _is_unknown(batch_id, settings):
        message = f"{batch_id} is known to neither bucket, nor ledger, nor Dagster"
        raise BatchNotFound(message)
    names = write_bundle(batch_id, target, settings=settings)
    if as_json:
        print_json({"batch_id": batch_id, "file": str(target), "contents": names})
    else:
        click.echo(f"{target}  {target.stat().st_size:,} bytes, {len(names)} files, no secrets")
    return 0


def _is_unknown(batch_id: str, settings: Settings) -> bool:
    """Whether no trace of the batch is anywhere; what cannot be asked may have one."""
    traces: tuple[Callable[[], bool], ...] = (
        partial(_is_in_bucket, batch_id, settings),
        partial(_is_in_ledger, batch_id, settings),
        partial(_has_runs, batch_id, settings),
    )
    for is_there in traces:
        try:
            if is_there():
                return False
        except Exception:  # noqa: BLE001 - the bundle itself says what cannot be read
            return False
    return True


def _is_in_bucket(batch_id: str, settings: Settings) -> bool:
    with open_object_store(settings) as store:
        prefixes = (BatchFolder(batch_id).prefix, f"artifacts/{batch_id}/")
        found = (next(iter(store.list(prefix)), None) for prefix in prefixes)
        return any(found) or find_drop(batch_id, store=store) is not None


def _is_in_ledger(batch_id: str, settings: Settings) -> bool:
    with open_ledger(settings) as ledger:
        return any(ledger.batch_slice(batch_id).values())


def _has_runs(batch_id: str, settings: Settings) -> bool:
    from assetgen_pipeline.defs import inspection

    return inspection.has_runs(settings, batch_id)


def write_bundle(batch_id: str, target: Path, *, settings: Settings) -> list[str]:
    """Write the file, whole or not at all; the names in it."""
    parts: dict[str, Part] = {
        "bucket": partial(_from_bucket, batch_id, settings),
        "ledger": partial(_from_ledger, batch_id, settings),
        "runs": partial(_from_dagster, batch_id, settings),
        "logs": partial(_from_logs, settings),
        "doctor": partial(_from_doctor, settings),
        "metrics": partial(_from_metrics, settings),
        "settings": partial(_from_settings, settings),
    }
    secrets = secret_values(settings)
    unfinished = target.with_name(target.name + ".part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as bundle:
        about = _ABOUT.format(batch=batch_id, now=open_clock().now().isoformat(timespec="seconds"))
        bundle.writestr("README.txt", about)
        for name, part in parts.items():
            try:
                for path, text in part():
                    bundle.writestr(path, scrub(text, secrets))
            except Exception as error:  # noqa: BLE001 - what is missing must not hide the rest
                bundle.writestr(
                    f"{name}.error.txt", scrub(f"{type(error).__name__}: {error}\n", secrets)
                )
        names = bundle.namelist()
    unfinished.replace(target)
    return names


def _from_bucket(batch_id: str, settings: Settings) -> Iterator[tuple[str, str]]:
    folder = BatchFolder(batch_id)
    with open_object_store(settings) as store:
        wanted = (folder.status, folder.problem, folder.manifest, folder.control)
        for name in wanted:
            if store.stat(name) is not None:
                yield name.rpartition("/")[2], store.read(name).decode(errors="replace")
        prefix = f"artifacts/{batch_id}/"
        listed = [found.name for found in store.list(prefix)]
        for name in listed[:_MOST_ARTIFACTS]:
            text = store.read(name).decode(errors="replace")
            yield f"artifacts/{name.removeprefix(prefix)}", text
        objects = [f"{o.size:>12} {o.generation} {o.name}" for o in store.list(folder.prefix)]
        yield "objects.txt", "\n".join([*objects, *listed])


def _from_ledger(batch_id: str, settings: Settings) -> Iterator[tuple[str, str]]:
    with open_ledger(settings) as ledger:
        rows = ledger.batch_slice(batch_id)
        day = ledger.day(BatchFolder(batch_id).owner).model_dump(mode="json")
    yield "ledger.json", json.dumps({**rows, "today": day}, indent=1, default=str)


def _from_dagster(batch_id: str, settings: Settings) -> Iterator[tuple[str, str]]:
    from assetgen_pipeline.defs import inspection

    for run_id, lines in inspection.run_reports(settings, batch_id).items():
        yield f"runs/{run_id}.txt", "\n".join(lines)


def _from_logs(settings: Settings) -> Iterator[tuple[str, str]]:
    for path in sorted((settings.home / "logs").glob("*.log")):
        with path.open("rb") as log:
            skipped = path.stat().st_size - _TAIL_BYTES
            if skipped > 0:
                log.seek(skipped)
                # Half a line may be half a key, which nothing recognizes.
                log.readline()
            yield f"logs/{path.name}", log.read().decode(errors="replace")


def _from_doctor(settings: Settings) -> Iterator[tuple[str, str]]:
    yield "doctor.json", json.dumps([asdict(found) for found in examine(settings)], indent=1)


def _from_metrics(settings: Settings) -> Iterator[tuple[str, str]]:
    yield "metrics.prom", exposition(gather(settings))


def _from_settings(settings: Settings) -> Iterator[tuple[str, str]]:
    yield "settings.json", json.dumps(public_values(settings), indent=1)
    installed = sorted(f"{found.name} {found.version}" for found in distributions())
    yield "versions.txt", "\n".join(installed)
