"""Checks of the books, the prices, and the provider that is paid."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from urllib.parse import urlsplit

from assetgen_pipeline.cli.doctor_bucket import skew_finding
from assetgen_pipeline.domain.errors import LedgerUnavailable
from assetgen_pipeline.domain.findings import Finding
from assetgen_pipeline.settings import Settings
from assetgen_pipeline.wiring.clock import open_clock
from assetgen_pipeline.wiring.deployment import open_deployment
from assetgen_pipeline.wiring.ledger import ledger_url, open_ledger
from assetgen_pipeline.wiring.probes import provider_answer

_OK, _NOT_FOUND, _SERVER_ERROR = 200, 404, 500
_REFUSED = (401, 403)
_BAD_KEY = 400
_THIS_MACHINE = {"localhost", "127.0.0.1", "::1"}
_KEYS = {"gemini": "GEMINI_API_KEY", "openai": "OPENAI_API_KEY"}


def check_ledger(settings: Settings) -> Iterator[Finding]:
    """Schema, every invariant, open holds, unknown bills, and the database's clock."""
    clock = open_clock()
    with _named_fixes(settings), open_ledger(settings) as ledger:
        broken = [check.name for check in ledger.verify() if check.violations]
        holds, assumed = len(ledger.open_holds()), len(ledger.assumed_attempts())
        before, theirs, after = clock.now(), ledger.now(), clock.now()
    engine = ledger_url(settings).partition(":")[0]
    if broken:
        yield Finding("FAIL", "ledger", f"broken: {', '.join(broken)}", "assetgen ledger verify")
    else:
        value = f"{engine}: schema as needed, every invariant holds, {holds} open holds"
        yield Finding("ok", "ledger", value)
    if assumed:
        yield Finding(
            "warn", "bills", f"{assumed} attempts at their ceiling", "assetgen ledger reconcile"
        )
    if not engine.startswith("sqlite"):
        yield skew_finding("clock", "the ledger", theirs - before, theirs - after)


@contextmanager
def _named_fixes(settings: Settings) -> Iterator[None]:
    """Have a ledger that is away name the next step."""
    try:
        yield
    except LedgerUnavailable as error:
        if error.fix != LedgerUnavailable.fix:
            raise
        raise error.with_fix(_ledger_fix(ledger_url(settings))) from None


def _ledger_fix(url: str) -> str:
    if url.startswith("sqlite"):
        return (
            "let this account read and write the ledger's file and folder (ledger.db under HOME, or"
            " ASSETGEN_LEDGER_URL), and make room; a damaged file: `assetgen ledger restore FILE`"
        )
    if find_spec("psycopg") is None:
        return "install the driver: pip install 'assetgen-pipeline[postgres]'"
    return (
        f"start the database at {urlsplit(url).hostname or 'the host of ASSETGEN_LEDGER_URL'}, let"
        " this machine reach it, and check user, password, free connections and disk; until then"
        " nothing is paid"
    )


def check_prices(settings: Settings) -> Iterator[Finding]:
    """A price for the provider and model chosen."""
    deployment = open_deployment(settings)
    yield Finding(
        "ok",
        "prices",
        f"{deployment.provider}/{deployment.model}, version {deployment.catalogue.version}",
    )


def check_provider(settings: Settings) -> Iterator[Finding]:
    """The provider's answer about the model: reached, key taken, nothing spent."""
    model = open_deployment(settings).model
    key = _KEYS.get(settings.provider, "")
    if key and not settings.use_vertexai and not _has_key(settings):
        yield Finding("FAIL", "provider", f"{settings.provider}: no key", f"set {key}")
        return
    answer = provider_answer(settings, model)
    if answer is None:
        yield Finding("ok", "provider", "local: images are drawn in this process")
        return
    yield from _sent_in_clear(settings)
    status, host = answer
    yield _provider_finding(status, f"{settings.provider} at {host}", model=model, key=key)


def _sent_in_clear(settings: Settings) -> Iterator[Finding]:
    of_gemini = settings.vertex_base_url if settings.use_vertexai else settings.gemini_base_url
    parts = urlsplit(settings.openai_base_url if settings.provider == "openai" else of_gemini)
    if parts.scheme == "http" and parts.hostname not in _THIS_MACHINE:
        value = f"key, prompts and images go to {parts.hostname} in clear text"
        yield Finding("warn", "provider", value, "use an https:// endpoint")


def _has_key(settings: Settings) -> bool:
    key = settings.openai_api_key if settings.provider == "openai" else settings.gemini_api_key
    return bool(key.get_secret_value().strip())


def _provider_finding(status: int, where: str, *, model: str, key: str) -> Finding:
    subject = "provider"
    if status == _OK:
        return Finding("ok", subject, f"{where} knows {model} (nothing was spent)")
    if status == 0:
        fix = "let this machine reach it (egress, DNS); proxies are not used"
        return Finding("FAIL", subject, f"{where} does not answer", fix)
    if status in _REFUSED or status == _BAD_KEY:
        return Finding("FAIL", subject, f"{where} refuses the key ({status})", f"replace {key}")
    if status >= _SERVER_ERROR:
        return Finding("warn", subject, f"{where} is in trouble ({status})", "wait, and look again")
    fix = f"choose a model that it has, or ignore this where it lists none ({model})"
    return Finding("warn", subject, f"{where} is there and says {status} about {model}", fix)
