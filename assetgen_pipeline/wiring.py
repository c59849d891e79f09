"""The composition root: settings in, adapters out.

Adapters are imported by the function that opens them, so that `assetgen --help` loads
neither Google nor Pillow. Everything opened here is closed by the context that opened it.
"""

import atexit
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from assetgen_pipeline.domain.batch_file import CsvLimits
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.pricing import Catalogue
from assetgen_pipeline.ports import (
    Clock,
    ImageProvider,
    Ledger,
    ObjectStore,
    ReferenceFetcher,
    UrlSigner,
)
from assetgen_pipeline.settings import Settings
from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.stages.fetch_references import FetchPolicy
from assetgen_pipeline.stages.services import Services, UrlPolicy

if TYPE_CHECKING:
    from assetgen_pipeline.adapters.sql_ledger import SqlLedger

_BACKOFF_S = (1.0, 2.0)


@cache
def local_bucket(home: Path) -> str:
    """The endpoint of the shared local bucket, held until this process ends."""
    from assetgen_pipeline.adapters.local_bucket import hold_local_bucket

    stack = ExitStack()
    endpoint = stack.enter_context(hold_local_bucket(home))
    atexit.register(stack.close)
    return endpoint


def emulator_endpoint(settings: Settings) -> str:
    """The emulator's address, the local bucket's where that is used, `""` in the cloud."""
    if settings.storage_emulator_host:
        host = settings.storage_emulator_host
        return host if "://" in host else f"http://{host}"
    return local_bucket(settings.home) if settings.uses_local_bucket else ""


def bucket_kind(settings: Settings) -> str:
    """How people should read the bucket's name."""
    if settings.storage_emulator_host:
        return "an emulator (STORAGE_EMULATOR_HOST)"
    return "LOCAL FAKE BUCKET" if settings.uses_local_bucket else "Google Cloud Storage"


@contextmanager
def open_object_store(
    settings: Settings, *, cloud_client: Callable[[], Any] | None = None
) -> Iterator[ObjectStore]:
    """Open the bucket; `cloud_client` makes the client where no emulator stands in.

    Raises:
        StorageUnavailable: it cannot be reached.
    """
    from assetgen_pipeline.adapters import gcs_object_store

    endpoint = emulator_endpoint(settings)
    if endpoint:
        client: Any = gcs_object_store.emulator_client(endpoint)
    else:
        client = cloud_client() if cloud_client else gcs_object_store.cloud_client()
    try:
        store = gcs_object_store.GcsObjectStore(client, bucket=settings.bucket)
        if endpoint:
            store.ensure_bucket()
        yield store
    finally:
        client.close()


@contextmanager
def open_ledger(settings: Settings) -> Iterator["SqlLedger"]:
    """Open the ledger; an absent SQLite ledger is created.

    Raises:
        LedgerUnavailable: it cannot be reached, or its schema is not this release's.
    """
    from assetgen_pipeline.adapters.sql_ledger import open_sql_ledger

    settings.home.mkdir(parents=True, exist_ok=True)
    limit = settings.project_daily_limit_usd
    ledger = open_sql_ledger(
        ledger_url(settings),
        clock=open_clock(),
        time_zone=ZoneInfo(settings.budget_time_zone),
        default_limit=Money.from_usd(settings.daily_limit_usd),
        project_limit=Money.from_usd(limit) if limit is not None else None,
    )
    try:
        yield ledger
    finally:
        ledger.close()


def ledger_url(settings: Settings) -> str:
    """The ledger's URL: the one set, or the SQLite file under `HOME`."""
    return settings.ledger_url or f"sqlite:///{settings.ledger_path}"


def open_clock() -> Clock:
    """The system's clock."""
    from assetgen_pipeline.adapters.system_clock import SystemClock

    return SystemClock()


def open_catalogue(settings: Settings) -> Catalogue:
    """The catalogue of models and prices, the deployment's own entries first."""
    from assetgen_pipeline.adapters.catalogue import load_catalogue

    return load_catalogue(settings.catalogue)


def open_signer(settings: Settings) -> UrlSigner:
    """Who signs URLs: the local key beside an emulator, else a key file or IAM.

    Raises:
        StorageUnavailable: no credentials that can sign.
    """
    from assetgen_pipeline.adapters import gcs_url_signer

    endpoint = emulator_endpoint(settings)
    kind = settings.signer
    if kind == "auto":
        kind = "local" if endpoint else ("key_file" if settings.gcs_key_file else "iam")
    if kind == "local":
        credentials = gcs_url_signer.local_signing_key(settings.home)
        return gcs_url_signer.KeySigner(
            kind="local",
            credentials=credentials,
            bucket=settings.bucket,
            api_access_endpoint=endpoint or None,
        )
    if kind == "key_file":
        return gcs_url_signer.key_file_signer(settings.gcs_key_file, bucket=settings.bucket)
    return gcs_url_signer.iam_signer(bucket=settings.bucket)


@contextmanager
def open_services(settings: Settings, *, store: ObjectStore, ledger: Ledger) -> Iterator[Services]:
    """Put together what the stages of a batch work with."""
    from assetgen_pipeline.adapters.parquet_costs import ParquetCostFacts
    from assetgen_pipeline.adapters.pillow_images import PillowImageCodec

    endpoint = emulator_endpoint(settings)
    base = endpoint or "https://storage.cloud.google.com"
    codec = PillowImageCodec()
    try:
        yield Services(
            store=store,
            ledger=ledger,
            signer=open_signer(settings),
            codec=codec,
            facts=ParquetCostFacts(store),
            clock=open_clock(),
            link=lambda name: f"{base}/{settings.bucket}/{name}",
            urls=UrlPolicy(ttl=settings.url_ttl, refresh_margin=settings.url_refresh_margin),
        )
    finally:
        codec.close()


@contextmanager
def open_all(settings: Settings) -> Iterator[Services]:
    """Bucket, ledger and services at once, for commands."""
    with (
        open_object_store(settings) as store,
        open_ledger(settings) as ledger,
        open_services(settings, store=store, ledger=ledger) as services,
    ):
        yield services


def csv_limits(settings: Settings) -> CsvLimits:
    """How much a file may ask of us."""
    return CsvLimits(
        max_rows=settings.max_rows, allowed_networks=settings.reference_allowed_networks
    )


def deployment(settings: Settings) -> Deployment:
    """The deployment's choices, checked against the catalogue.

    Raises:
        PriceUnknown: no price for the provider and model chosen.
    """
    catalogue = open_catalogue(settings)
    model = settings.model or catalogue.default_model(settings.provider)
    catalogue.price(settings.provider, model)

    def open_provider(provider: str, model: str) -> ImageProvider:
        return _open_provider(settings, catalogue, provider, model)

    def open_fetcher() -> ReferenceFetcher:
        from assetgen_pipeline.adapters.http_reference_fetcher import HttpReferenceFetcher

        return HttpReferenceFetcher(
            timeout_s=settings.reference_timeout_s,
            allowed_networks=settings.reference_allowed_networks,
        )

    return Deployment(
        catalogue=catalogue,
        provider=settings.provider,
        model=model,
        open_provider=open_provider,
        open_fetcher=open_fetcher,
        csv_limits=csv_limits(settings),
        fetch_policy=FetchPolicy(
            concurrency=settings.reference_concurrency,
            retries=settings.reference_retries,
            backoff_s=_BACKOFF_S,
        ),
        reference_chunk=settings.reference_chunk,
        reference_batch_deadline_s=settings.reference_batch_deadline_s,
        generation_concurrency=settings.generation_concurrency,
        shard_rows=settings.shard_rows,
        max_runs_per_tick=settings.max_runs_per_tick,
        inbox_owners=settings.inbox_owners,
    )


def _open_provider(
    settings: Settings, catalogue: Catalogue, provider: str, model: str
) -> ImageProvider:
    from assetgen_pipeline.adapters.providers.local_renderer import LocalRenderer
    from assetgen_pipeline.domain.generation import ErrorKind, ProviderError

    price = catalogue.price(provider, model)
    if provider == "local":
        return LocalRenderer(
            price=price,
            clock=open_clock(),
            latency_s=settings.local_latency_s,
            failure_rate=settings.local_failure_rate,
            seed=settings.local_seed,
        )
    message = f"no adapter for provider {provider!r} in this release"
    raise ProviderError(message, kind=ErrorKind.FATAL_CONFIG)
