"""Probes of what lies outside: links, signatures, providers."""

from pathlib import Path

from assetgen_pipeline.settings import Settings


def signing_key_file(settings: Settings, kind: str) -> Path | None:
    """Where the key stands that signs URLs, `None` where IAM signs."""
    if kind == "local":
        return settings.home / "signing-key.json"
    return Path(settings.gcs_key_file) if kind == "key_file" else None


def signature_is_good(settings: Settings, kind: str, url: str) -> bool | None:
    """Whether a URL's signature verifies, `None` where the key is not at hand."""
    from assetgen_pipeline.adapters.link_probe import signature_holds

    key_file = signing_key_file(settings, kind)
    return signature_holds(url, key_file) if key_file is not None else None


def link_answer(url: str) -> int:
    """The status that a link's server answers, 0 where none answers."""
    from assetgen_pipeline.adapters.link_probe import answer_of

    return answer_of(url)


def provider_answer(settings: Settings, model: str) -> tuple[int, str] | None:
    """The provider's answer about a model and its host; `None` for what runs in this process.

    Raises:
        StorageUnavailable: there are no credentials to ask with.
    """
    from assetgen_pipeline.adapters import provider_probe as probe

    if settings.provider == "local":
        return None
    if settings.provider == "openai":
        key = settings.openai_api_key.get_secret_value().strip()
        answer = probe.probe_openai(model, api_key=key, base_url=settings.openai_base_url)
    elif settings.use_vertexai:
        answer = probe.probe_vertex(
            location=settings.vertex_location, base_url=settings.vertex_base_url
        )
    else:
        key = settings.gemini_api_key.get_secret_value().strip()
        answer = probe.probe_gemini(model, api_key=key, base_url=settings.gemini_base_url)
    return answer.status, answer.host
