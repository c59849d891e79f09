"""The deployment's choices: catalogue, provider, fetcher, limits."""

from assetgen_pipeline.domain.batch_file import CsvLimits
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.pricing import Catalogue
from assetgen_pipeline.ports.images import ImageProvider
from assetgen_pipeline.ports.references import ReferenceFetcher
from assetgen_pipeline.settings import Settings
from assetgen_pipeline.stages.approvals import ApprovalPolicy
from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.stages.fetch_references import FetchPolicy
from assetgen_pipeline.wiring.bucket import own_endpoint
from assetgen_pipeline.wiring.provider import open_provider

_BACKOFF_S = (1.0, 2.0)


def open_deployment(settings: Settings) -> Deployment:
    """The deployment's choices, checked against the catalogue.

    Raises:
        PriceUnknown: no price for the provider and model chosen; `ModelUnavailable` where
            the model is retired.
    """
    catalogue = open_catalogue(settings)
    model = settings.model or catalogue.default_model(settings.provider)
    catalogue.price(settings.provider, model)

    def open_chosen(provider: str, model: str) -> ImageProvider:
        return open_provider(settings, catalogue, provider, model)

    def open_fetcher() -> ReferenceFetcher:
        return _open_fetcher(settings)

    return Deployment(
        catalogue=catalogue,
        provider=settings.provider,
        model=model,
        open_provider=open_chosen,
        open_fetcher=open_fetcher,
        csv_limits=csv_limits(settings),
        fetch_policy=FetchPolicy(
            concurrency=settings.reference_concurrency,
            retries=settings.reference_retries,
            backoff_s=_BACKOFF_S,
            batch_deadline_s=settings.reference_batch_deadline_s,
            own_endpoint=own_endpoint(settings),
        ),
        reference_chunk=settings.reference_chunk,
        generation_concurrency=settings.generation_concurrency,
        shard_rows=settings.shard_rows,
        max_runs_per_tick=settings.max_runs_per_tick,
        inbox_owners=settings.inbox_owners,
        approval=approval_policy(settings),
    )


def open_catalogue(settings: Settings) -> Catalogue:
    """The catalogue of models and prices, the deployment's own entries first."""
    from assetgen_pipeline.adapters.catalogue import load_catalogue

    return load_catalogue(settings.catalogue)


def csv_limits(settings: Settings) -> CsvLimits:
    """How much a file may ask of us."""
    return CsvLimits(
        max_bytes=settings.max_file_mib * 1024 * 1024,
        max_rows=settings.max_rows,
        max_columns=settings.max_columns,
        allowed_networks=settings.reference_allowed_networks,
        own_endpoint=own_endpoint(settings),
    )


def _open_fetcher(settings: Settings) -> ReferenceFetcher:
    from assetgen_pipeline.adapters.fetch_slots import FetchSlots, SlottedReferenceFetcher
    from assetgen_pipeline.adapters.http_reference_fetcher import HttpReferenceFetcher

    fetcher = HttpReferenceFetcher(
        timeout_s=settings.reference_timeout_s,
        allowed_networks=settings.reference_allowed_networks,
        own_endpoint=own_endpoint(settings),
    )
    folder = settings.home / "reference-fetches"
    return SlottedReferenceFetcher(
        fetcher, FetchSlots(folder, slots=settings.reference_concurrency)
    )


def approval_policy(settings: Settings) -> ApprovalPolicy:
    """From which estimate on batches need approval, and how long they wait for it."""
    above = settings.approval_above_usd
    return ApprovalPolicy(
        above=None if above is None else Money.from_usd(above), expires=settings.approval_expires
    )
