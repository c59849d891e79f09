"""The image provider of a run: the local renderer, Gemini, or OpenAI and compatible servers."""

from collections.abc import Mapping
from typing import Protocol

from assetgen_pipeline.domain.pricing import Catalogue, ModelPrice
from assetgen_pipeline.ports.images import ImageProvider
from assetgen_pipeline.settings import Settings
from assetgen_pipeline.wiring.clock import open_clock


class _Opening(Protocol):
    def __call__(
        self, settings: Settings, price: ModelPrice, alternatives: list[str]
    ) -> ImageProvider: ...


def open_provider(
    settings: Settings, catalogue: Catalogue, provider: str, model: str
) -> ImageProvider:
    """Open a provider's model; call it in the loop that generates.

    Raises:
        PriceUnknown: no price for the model; `ModelUnavailable` where it is retired.
        ProviderError: of kind `auth` where there are no credentials, `fatal_config` where the
            catalogue names a provider that has no adapter.
    """
    from assetgen_pipeline.domain.generation import ErrorKind, ProviderError

    price = catalogue.price(provider, model)
    opening = _OPENINGS.get(provider)
    if opening is None:
        message = f"no adapter for provider {provider!r} in this release"
        raise ProviderError(message, kind=ErrorKind.FATAL_CONFIG)
    return opening(settings, price, catalogue.models_of(provider))


def _open_local(settings: Settings, price: ModelPrice, alternatives: list[str]) -> ImageProvider:  # noqa: ARG001
    from assetgen_pipeline.adapters.providers.local_renderer import LocalRenderer

    return LocalRenderer(
        price=price,
        clock=open_clock(),
        latency_s=settings.local_latency_s,
        failure_rate=settings.local_failure_rate,
        seed=settings.local_seed,
    )


def _open_gemini(settings: Settings, price: ModelPrice, alternatives: list[str]) -> ImageProvider:
    from assetgen_pipeline.adapters.providers.gemini import (
        GeminiAccess,
        GeminiProvider,
        keyless_access,
    )

    if settings.use_vertexai:
        access = keyless_access(
            project=settings.vertex_project,
            location=settings.vertex_location,
            base_url=settings.vertex_base_url,
        )
    else:
        access = GeminiAccess(
            api_key=settings.gemini_api_key.get_secret_value().strip(),
            base_url=settings.gemini_base_url,
        )
    return GeminiProvider(access, price=price, clock=open_clock(), alternatives=alternatives)


def _open_openai(settings: Settings, price: ModelPrice, alternatives: list[str]) -> ImageProvider:
    from assetgen_pipeline.adapters.providers.openai_compatible import OpenAiProvider

    return OpenAiProvider(
        api_key=settings.openai_api_key.get_secret_value().strip(),
        base_url=settings.openai_base_url,
        price=price,
        clock=open_clock(),
        alternatives=alternatives,
    )


_OPENINGS: Mapping[str, _Opening] = {
    "local": _open_local,
    "gemini": _open_gemini,
    "openai": _open_openai,
}
