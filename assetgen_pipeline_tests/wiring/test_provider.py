"""What the settings say is who is asked, and how."""

from contextlib import aclosing

import google.oauth2.credentials
import pytest

from assetgen_pipeline.adapters.catalogue import load_catalogue
from assetgen_pipeline.domain.errors import ModelUnavailable
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.testing.provider_stub import ProviderStub
from assetgen_pipeline.wiring.provider import open_provider
from assetgen_pipeline_tests.hosted_providers import GEMINI, OPENAI, planned, token

CATALOGUE = load_catalogue()


@pytest.fixture
def stub():
    with ProviderStub() as made:
        yield made


async def ask(provider, model):
    opened = open_provider(load_settings(), CATALOGUE, provider, model)
    async with aclosing(opened) as made:
        return await made.generate(planned(model=model), [], token())


async def test_the_local_renderer_needs_nothing():
    assert (await ask("local", "storyboard-1")).cost_basis == "flat"


async def test_gemini_takes_its_key_and_endpoint_from_the_settings(stub, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", " key-of-ours\n")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", f"{stub.url}/")

    await ask("gemini", GEMINI)

    assert stub.requests[0].headers["x-goog-api-key"] == "key-of-ours"
    assert stub.requests[0].path.startswith("/v1/models/")


async def test_gemini_on_vertex_takes_project_place_and_credentials(stub, monkeypatch):
    credentials = google.oauth2.credentials.Credentials(token="token-of-ours")
    monkeypatch.setattr(
        "assetgen_pipeline.adapters.providers.gemini.default_credentials",
        lambda **_: (credentials, "project-of-the-credentials"),
    )
    monkeypatch.setenv("GEMINI_API_KEY", "a key that must not be sent")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "europe-west4")
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", stub.url)

    await ask("gemini", GEMINI)

    [request] = stub.requests
    where = "/v1beta1/projects/project-of-the-credentials/locations/europe-west4/"
    assert request.path.startswith(where)
    assert request.headers["authorization"] == "Bearer token-of-ours"
    assert "x-goog-api-key" not in request.headers


@pytest.mark.parametrize("slash", ["", "/"])
async def test_openai_takes_its_key_and_endpoint_from_the_settings(stub, monkeypatch, slash):
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-ours")
    monkeypatch.setenv("OPENAI_BASE_URL", stub.openai_url + slash)

    await ask("openai", OPENAI)

    assert stub.requests[0].path == "/v1/images/generations"
    assert stub.requests[0].headers["authorization"] == "Bearer key-of-ours"


async def test_a_compatible_server_may_need_no_key(stub, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", stub.openai_url)

    assert (await ask("openai", OPENAI)).data


@pytest.mark.parametrize(("provider", "model"), [("gemini", GEMINI), ("openai", OPENAI)])
async def test_without_credentials_nothing_is_opened(provider, model):
    with pytest.raises(ProviderError) as caught:
        await ask(provider, model)

    assert caught.value.kind is ErrorKind.AUTH


async def test_a_model_that_does_not_work_is_not_opened():
    with pytest.raises(ModelUnavailable, match="gemini-nano-banana"):
        await ask("gemini", "gemini-2.5-flash-image")


async def test_a_provider_that_only_a_catalogue_knows_has_no_adapter():
    price = CATALOGUE.price("local", "storyboard-1").model_copy(update={"provider": "theirs"})
    catalogue = CATALOGUE.model_copy(update={"models": (price,)})

    with pytest.raises(ProviderError, match="no adapter") as caught:
        open_provider(load_settings(), catalogue, "theirs", "storyboard-1")

    assert caught.value.kind is ErrorKind.FATAL_CONFIG
