"""Checks of the bucket: its operations, its clock, and links to its objects."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from assetgen_pipeline.domain.errors import ObjectExists, StorageUnavailable
from assetgen_pipeline.domain.findings import Finding, State
from assetgen_pipeline.ports.object_store import ObjectStore
from assetgen_pipeline.settings import Settings
from assetgen_pipeline.wiring.bucket import bucket_kind, open_object_store
from assetgen_pipeline.wiring.clock import open_clock
from assetgen_pipeline.wiring.probes import link_answer, signature_is_good
from assetgen_pipeline.wiring.services import open_signer

_PROBE_PREFIX = "artifacts/doctor/"
_PERMISSION = (
    "grant the service account roles/storage.objectUser on the bucket (docs/deploy.md lists all)"
)
_WARN_SKEW = timedelta(seconds=5)
_FAIL_SKEW = timedelta(seconds=60)
_OK, _NOT_FOUND, _TOO_MANY, _SERVER_ERROR = 200, 404, 429, 500
_REFUSED = (401, 403)
_SHORT = timedelta(minutes=5)


def check_bucket(settings: Settings) -> Iterator[Finding]:
    """List, write, precondition, delete, and the bucket's clock against ours."""
    clock, kind = open_clock(), bucket_kind(settings)
    name = f"{_PROBE_PREFIX}{secrets.token_hex(8)}"
    with _named_fixes(settings) as step, open_object_store(settings) as store:
        began = clock.monotonic()
        step.permission = "storage.objects.list"
        next(iter(store.list("inbox/")), None)
        before = clock.now()
        step.permission = "storage.objects.create"
        made = store.create(name, b"probe", content_type="text/plain")
        after = clock.now()
        guarded = _refuses_a_second(name, store)
        step.permission = "storage.objects.delete"
        gone = store.delete(name, generation=made.generation)
        step.permission = "storage.objects.get"
        store.stat(name)
        took = f"{clock.monotonic() - began:.1f} s"
    if guarded and gone:
        steps = "list · write · precondition · delete"
        yield Finding("ok", "bucket", f"{settings.bucket} ({kind}): {steps} in {took}")
    else:
        yield Finding(
            "FAIL",
            "bucket",
            f"{settings.bucket} ({kind}) ignores preconditions: claims would not be safe",
            "use Cloud Storage, or an emulator that enforces ifGenerationMatch",
        )
    yield skew_finding("clock", "the bucket", made.updated_at - before, made.updated_at - after)


@dataclass(slots=True)
class _Step:
    """What is tried now needs this permission."""

    permission: str = "storage.buckets.get"


@contextmanager
def _named_fixes(settings: Settings) -> Iterator[_Step]:
    """Have what the bucket refuses name the next step: what to grant, set or start."""
    step = _Step()
    try:
        yield step
    except StorageUnavailable as error:
        if error.fix != StorageUnavailable.fix:
            raise
        raise error.with_fix(_bucket_fix(error.status, settings, step.permission)) from None


def _bucket_fix(status: int, settings: Settings, permission: str) -> str:
    if status in _REFUSED:
        return f"{permission} is missing on {settings.bucket}: {_PERMISSION}"
    if status == _NOT_FOUND:
        return f"create the bucket {settings.bucket}, or set ASSETGEN_BUCKET to one that exists"
    if status == _TOO_MANY or status >= _SERVER_ERROR:
        return "wait: the bucket's servers are in trouble or busy; then `assetgen retry BATCH`"
    if settings.storage_emulator_host:
        where = settings.storage_emulator_host
        return f"start the emulator at {where}, or unset STORAGE_EMULATOR_HOST"
    if settings.uses_local_bucket:
        return "read logs/bucket.log under HOME: the local bucket needs HOME writable, with room"
    return (
        "let this machine reach storage.googleapis.com, port 443 (egress, DNS); where it does,"
        " renew the credentials that GOOGLE_APPLICATION_CREDENTIALS names"
    )


def _refuses_a_second(name: str, store: ObjectStore) -> bool:
    try:
        store.create(name, b"again", content_type="text/plain")
    except ObjectExists:
        return True
    return False


def skew_finding(subject: str, other: str, earliest: timedelta, latest: timedelta) -> Finding:
    """How far another clock is from ours; the truth lies between the two differences."""
    none = timedelta(0)
    skew = none if latest <= none <= earliest else min(earliest, latest, key=abs)
    size = abs(skew)
    state: State = "ok" if size <= _WARN_SKEW else "warn" if size <= _FAIL_SKEW else "FAIL"
    side = "ahead of" if skew > none else "behind"
    value = f"{size.total_seconds():.1f} s {side} ours" if size > _WARN_SKEW else "as ours"
    fix = "synchronize this machine's clock (chrony, systemd-timesyncd): links and days go by it"
    return Finding(state, subject, f"{other}'s clock is {value}", fix)


def check_signing(settings: Settings) -> Iterator[Finding]:
    """Sign a link to a probe, verify its signature where the key is here, and open it."""
    signer, now = open_signer(settings), open_clock().now()
    name = f"{_PROBE_PREFIX}{secrets.token_hex(8)}"
    with _named_fixes(settings) as step, open_object_store(settings) as store:
        step.permission = "storage.objects.create"
        made = store.create(name, b"probe", content_type="text/plain")
        try:
            [signed] = signer.sign([name], ttl=_SHORT, now=now)
            good = signature_is_good(settings, signer.kind, signed.url)
            status = link_answer(signed.url)
        finally:
            step.permission = "storage.objects.delete"
            store.delete(name, generation=made.generation)
    value = f"{signer.kind}, {_verdict(good)}, the link answers {status or 'nothing'}"
    if good is False:
        fix = "replace the key: it does not make the signatures that its public half expects"
        yield Finding("FAIL", "signing", value, fix)
    elif status != _OK:
        yield Finding("FAIL", "signing", value, f"reach the bucket from here; {_PERMISSION}")
    else:
        yield Finding("ok", "signing", f"{value}, ends {_minute(signed.expires_at)}")


def _verdict(good: bool | None) -> str:  # noqa: FBT001 - three answers
    return {True: "signature verified", False: "signature WRONG", None: "signed by IAM"}[good]


def _minute(instant: datetime) -> str:
    return instant.isoformat(timespec="minutes")
