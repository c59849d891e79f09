"""Checks of this machine: versions, disk, environment, and where alerts go."""

import platform
import shutil
import sqlite3
from collections.abc import Iterator
from importlib.metadata import version

from assetgen_pipeline.domain.alerts import Alert, AlertKind
from assetgen_pipeline.domain.errors import NotificationFailed
from assetgen_pipeline.domain.findings import Finding
from assetgen_pipeline.settings import Settings, ignored_proxies, unknown_variables
from assetgen_pipeline.wiring.notifier import alert_ways, open_notifier

_LIBRARIES = ("assetgen-pipeline", "dagster", "google-cloud-storage", "pillow", "sqlalchemy")
_MIB = 1024 * 1024
_WARN_MIB, _FAIL_MIB = 2_048, 200


def check_versions(settings: Settings) -> Iterator[Finding]:
    """What runs here."""
    versions = [f"{name} {version(name)}" for name in _LIBRARIES]
    versions += [f"python {platform.python_version()}", f"sqlite {sqlite3.sqlite_version}"]
    yield Finding("ok", "versions", f"{', '.join(versions)}; home {settings.home}")


def check_disk(settings: Settings) -> Iterator[Finding]:
    """Space where all local state is."""
    settings.home.mkdir(parents=True, exist_ok=True)
    yield disk_finding(shutil.disk_usage(settings.home).free // _MIB)


def disk_finding(free_mib: int) -> Finding:
    """Whether that much space will do."""
    fix = "make room: a full disk stops the ledger, and so every paid call"
    value = f"{free_mib / 1024:.1f} GiB free"
    if free_mib < _FAIL_MIB:
        return Finding("FAIL", "disk", value, fix)
    return Finding("warn" if free_mib < _WARN_MIB else "ok", "disk", value, fix)


def check_environment(settings: Settings) -> Iterator[Finding]:
    """Variables that people expect to work and that nothing here uses."""
    del settings
    names = ignored_proxies()
    if names:
        value = f"{', '.join(names)} set: references, providers and alerts do not use a proxy"
        yield Finding("warn", "proxies", value, "allow direct egress, or unset them")
    else:
        yield Finding("ok", "proxies", "none set; none is used")


def check_names(settings: Settings) -> Iterator[Finding]:
    """Variables that look like settings and are none: nothing else would say so."""
    del settings
    found = unknown_variables()
    for name, nearest in found.items():
        value = f"{name} is not the name of a setting and does nothing"
        fix = f"rename it to {nearest}, or unset it" if nearest else "unset it"
        yield Finding("warn", "settings", value, f"{fix} (docs/settings.md lists every name)")
    if not found:
        yield Finding("ok", "settings", "every ASSETGEN_ variable is the name of one")


def check_alerts(settings: Settings) -> Iterator[Finding]:
    """Where alerts go."""
    ways = alert_ways(settings)
    if ways == "log":
        fix = "set ASSETGEN_ALERT_WEBHOOK_URL or ASSETGEN_ALERT_EMAIL (docs/monitoring.md)"
        yield Finding("ok", "alerts", "to the log alone", fix)
    else:
        yield Finding("ok", "alerts", f"to {ways}; `assetgen doctor --test-alert` sends one")


def send_test_alert(settings: Settings) -> Iterator[Finding]:
    """Send one alert that says it is a test."""
    alert = Alert(
        kind=AlertKind.CHECK_FAILED,
        about="test",
        what="a test: somebody ran `assetgen doctor --test-alert`",
        command="nothing; alerts reach you",
    )
    try:
        open_notifier(settings).notify(alert)
    except NotificationFailed as failure:
        fix = "check ASSETGEN_ALERT_WEBHOOK_URL, ASSETGEN_ALERT_EMAIL and its server"
        yield Finding("FAIL", "test alert", str(failure), fix)
    else:
        yield Finding("ok", "test alert", f"sent to {alert_ways(settings)}")
