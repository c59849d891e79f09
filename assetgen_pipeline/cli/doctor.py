"""`assetgen doctor`: check every dependency for real; each line a state, a value and a fix."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict

import click

from assetgen_pipeline.cli.doctor_bucket import check_bucket, check_signing
from assetgen_pipeline.cli.doctor_dagster import check_dagster
from assetgen_pipeline.cli.doctor_machine import (
    check_alerts,
    check_disk,
    check_environment,
    check_names,
    check_versions,
    send_test_alert,
)
from assetgen_pipeline.cli.doctor_money import check_ledger, check_prices, check_provider
from assetgen_pipeline.cli.output import json_option, print_json
from assetgen_pipeline.domain.errors import AssetgenError
from assetgen_pipeline.domain.findings import Finding
from assetgen_pipeline.domain.redaction import redact
from assetgen_pipeline.settings import Settings, load_settings
from assetgen_pipeline.wiring.ledger import ledger_url

Check = Callable[[Settings], Iterable[Finding]]

_CHECKS: dict[str, Check] = {
    "versions": check_versions,
    "settings": check_names,
    "disk": check_disk,
    "bucket": check_bucket,
    "signing": check_signing,
    "ledger": check_ledger,
    "prices": check_prices,
    "provider": check_provider,
    "dagster": check_dagster,
    "proxies": check_environment,
    "alerts": check_alerts,
}

_UNKNOWN = "a bug of ours, or a broken installation: install it anew, or send us this line"
_BROKEN = {
    "dagster": "start the database that dagster.yaml in DAGSTER_HOME names, let this machine reach"
    " it, and check its user, free connections and disk",
}


@click.command()
@click.option(
    "--fix",
    is_flag=True,
    help="Mend what is safe: the ledger's schema, pool limits, leaked slots, dead runs.",
)
@click.option("--test-alert", is_flag=True, help="Send an alert that says it is a test.")
@json_option
def doctor(*, fix: bool, test_alert: bool, as_json: bool) -> int:
    """Check every dependency for real; exit 1 where something is wrong."""
    settings = load_settings()
    checks = {**_REPAIRS, **_CHECKS} if fix else dict(_CHECKS)
    if test_alert:
        checks["test alert"] = send_test_alert
    findings = examine(settings, checks)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    for finding in [] if as_json else findings:
        click.echo(f"{finding.state:<5} {finding.subject:<10} {finding.value}")
        if finding.fix and finding.state != "ok":
            click.echo(f"      fix: {finding.fix}")
    return 1 if any(finding.state == "FAIL" for finding in findings) else 0


def examine(settings: Settings, checks: dict[str, Check] | None = None) -> list[Finding]:
    """Every finding of every check (by default of all); one that breaks hides no other."""
    findings: list[Finding] = []
    for subject, check in (checks if checks is not None else _CHECKS).items():
        try:
            findings += check(settings)
        except AssetgenError as error:
            findings.append(Finding("FAIL", subject, f"{error.code}: {error}", error.fix))
        except Exception as error:  # noqa: BLE001 - a check that breaks is a finding itself
            value = f"the check broke: {type(error).__name__}: {redact(str(error))[:200]}"
            findings.append(Finding("FAIL", subject, value, _BROKEN.get(subject, _UNKNOWN)))
    return findings


def _mend_schema(settings: Settings) -> Iterator[Finding]:
    from assetgen_pipeline.adapters.sql_ledger import schema_state, upgrade_schema

    settings.home.mkdir(parents=True, exist_ok=True)
    url = ledger_url(settings)
    before, newest = schema_state(url)
    upgrade_schema(url)
    if before != newest:
        yield Finding("ok", "fixed", f"the ledger's schema: {before or 'none'} to {newest}")


def _mend_runs(settings: Settings) -> Iterator[Finding]:
    """Pool limits (set by opening), leaked slots, and what dead runs hold."""
    from assetgen_pipeline.defs import control, inspection

    recovery = control.recover_dead(settings)
    freed = inspection.free_leaked_slots(settings)
    if freed:
        yield Finding("ok", "fixed", f"slots of {', '.join(freed)}, which are over")
    if recovery.ended_runs or any(hold.released is not None for hold in recovery.holds):
        yield Finding("ok", "fixed", recovery.summary())
    yield Finding("ok", "fixed", "pool limits are as the settings say")


_REPAIRS: dict[str, Check] = {"fix schema": _mend_schema, "fix runs": _mend_runs}
