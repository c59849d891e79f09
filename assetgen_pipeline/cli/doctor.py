"""`assetgen doctor`: check every dependency for real; each line a state, a value and a fix."""

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib.metadata import version

import click

from assetgen_pipeline import wiring
from assetgen_pipeline.cli.output import json_option, print_json
from assetgen_pipeline.domain.errors import AssetgenError, ObjectExists
from assetgen_pipeline.ports import ObjectStore
from assetgen_pipeline.settings import Settings, load_settings

_PROBE_PREFIX = "artifacts/doctor/"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result."""

    state: str
    subject: str
    value: str
    fix: str = ""


@click.command()
@click.option("--fix", is_flag=True, help="Mend what is safe to mend: upgrade the ledger's schema.")
@json_option
def doctor(*, fix: bool, as_json: bool) -> int:
    """Check bucket, signing, ledger, Dagster and versions; exit 1 where something is wrong."""
    settings = load_settings()
    if fix:
        _mend(settings)
    findings = [
        _guarded(subject, check, settings)
        for subject, check in (
            ("versions", _versions),
            ("bucket", _bucket),
            ("signing", _signing),
            ("ledger", _ledger),
            ("prices", _prices),
            ("pools", _pools),
            ("daemons", _daemons),
        )
    ]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    for finding in [] if as_json else findings:
        click.echo(f"{finding.state:<5} {finding.subject:<9} {finding.value}")
        if finding.fix and finding.state != "ok":
            click.echo(f"      fix: {finding.fix}")
    return 1 if any(finding.state == "FAIL" for finding in findings) else 0


def _mend(settings: Settings) -> None:
    from assetgen_pipeline.adapters.sql_ledger import upgrade_schema

    settings.home.mkdir(parents=True, exist_ok=True)
    upgrade_schema(wiring.ledger_url(settings))


def _guarded(subject: str, check: Callable[[Settings], Finding], settings: Settings) -> Finding:
    try:
        return check(settings)
    except AssetgenError as error:
        return Finding("FAIL", subject, f"{error.code}: {error}", error.fix)


def _versions(settings: Settings) -> Finding:
    names = ("assetgen-pipeline", "dagster", "google-cloud-storage", "pillow", "sqlalchemy")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return Finding("ok", "versions", f"{versions}; home {settings.home}")


def _bucket(settings: Settings) -> Finding:
    with wiring.open_object_store(settings) as store:
        steps = " · ".join(_probe(store))
    return Finding("ok", "bucket", f"{settings.bucket} ({wiring.bucket_kind(settings)}): {steps}")


def _probe(store: ObjectStore) -> Iterator[str]:
    name = f"{_PROBE_PREFIX}{secrets.token_hex(8)}"
    next(iter(store.list("inbox/")), None)
    yield "list"
    made = store.create(name, b"probe", content_type="text/plain")
    yield "write"
    try:
        store.create(name, b"again", content_type="text/plain")
    except ObjectExists:
        yield "precondition"
    else:
        raise AssertionError("the bucket ignores preconditions; claims would not be safe")
    store.delete(name, generation=made.generation)
    yield "delete"


def _signing(settings: Settings) -> Finding:
    signer = wiring.open_signer(settings)
    signed = signer.sign(
        ["artifacts/doctor/probe"], ttl=timedelta(minutes=5), now=wiring.open_clock().now()
    )
    return Finding("ok", "signing", f"{signer.kind}, expires {signed[0].expires_at.isoformat()}")


def _ledger(settings: Settings) -> Finding:
    with wiring.open_ledger(settings) as ledger:
        broken = [check.name for check in ledger.verify() if check.violations]
        holds = len(ledger.open_holds())
    if broken:
        return Finding("FAIL", "ledger", f"broken: {', '.join(broken)}", "assetgen ledger verify")
    engine = wiring.ledger_url(settings).partition(":")[0]
    return Finding("ok", "ledger", f"{engine}: every invariant holds, {holds} open holds")


def _prices(settings: Settings) -> Finding:
    deployment = wiring.deployment(settings)
    return Finding(
        "ok",
        "prices",
        f"{deployment.provider}/{deployment.model}, version {deployment.catalogue.version}",
    )


def _pools(settings: Settings) -> Finding:
    from assetgen_pipeline.defs import control

    slots = {
        name: f"{used}/{limit}" for name, (limit, used) in control.pool_slots(settings).items()
    }
    return Finding("ok", "pools", json.dumps(slots))


def _daemons(settings: Settings) -> Finding:
    from assetgen_pipeline.defs import control

    healthy = control.daemons_healthy(settings)
    away = sorted(name for name, ok in healthy.items() if not ok)
    if away:
        return Finding("warn", "daemons", f"not running: {', '.join(away)}", "assetgen up")
    return Finding("ok", "daemons", f"{len(healthy)} with a recent heartbeat")
