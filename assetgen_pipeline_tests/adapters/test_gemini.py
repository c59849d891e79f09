"""Gemini through the real SDK against the provider stub: one attempt, one request, the truth."""

import socket
from contextlib import aclosing

import google.auth.credentials
import google.oauth2.credentials
import pytest
from google.auth import exceptions as auth_exceptions

from assetgen_pipeline.adapters.providers.gemini import (
    GeminiAccess,
    GeminiProvider,
    keyless_access,
)
from assetgen_pipeline.domain.generation import Billing, ErrorKind, ProviderError
from assetgen_pipeline.domain.image_request import AspectRatio, ReferenceMode
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.pricing import listed_cost
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.stub_gemini import GEMINI_ANSWERS
from assetgen_pipeline_tests.hosted_providers import (
    GEMINI,
    JPEG,
    PNG,
    ask,
    assert_nothing_of_upstreams,
    failed,
    gemini_price,
    open_gemini,
    open_vertex,
    planned,
    token,
)

K, B = ErrorKind, Billing
# Prompt and thinking: 12 at 1.50 and 90 at 7.50 per million.
NO_IMAGE = Money(693)
ONE_IMAGE = Money(693 + 1120 * 30)


# Every row of the research's tables, and what this adapter makes of it:
# answer: (kind, billing, cost, seconds to wait, what is said).
FAILURES = {
    "prompt_blocked": (K.CONTENT_BLOCKED, B.NOT_BILLED, None, None, "prompt, PROHIBITED"),
    "prompt_blocked_billed": (K.CONTENT_BLOCKED, B.BILLED, Money(18), None, "prompt, PROHIBITED"),
    "blocked": (K.CONTENT_BLOCKED, B.BILLED, ONE_IMAGE, None, "IMAGE_SAFETY"),
    "blocked_without_usage": (K.CONTENT_BLOCKED, B.BILLED, None, None, "IMAGE_SAFETY"),
    "image_prohibited": (K.CONTENT_BLOCKED, B.BILLED, NO_IMAGE, None, "IMAGE_PROHIBITED_CONTENT"),
    "prohibited": (K.CONTENT_BLOCKED, B.BILLED, NO_IMAGE, None, "PROHIBITED_CONTENT"),
    "safety": (K.CONTENT_BLOCKED, B.BILLED, NO_IMAGE, None, "SAFETY"),
    "personal_data": (K.CONTENT_BLOCKED, B.BILLED, NO_IMAGE, None, "SPII"),
    "blocklist": (K.CONTENT_BLOCKED, B.BILLED, NO_IMAGE, None, "BLOCKLIST"),
    "image_recitation": (K.CONTENT_BLOCKED, B.BILLED, NO_IMAGE, None, "IMAGE_RECITATION"),
    "recitation": (K.CONTENT_BLOCKED, B.BILLED, NO_IMAGE, None, "RECITATION"),
    "no_image": (K.NO_OUTPUT, B.BILLED, NO_IMAGE, None, "NO_IMAGE"),
    "only_text": (K.NO_OUTPUT, B.BILLED, NO_IMAGE, None, "STOP"),
    "nothing": (K.NO_OUTPUT, B.BILLED, NO_IMAGE, None, "STOP"),
    "image_other": (K.NO_OUTPUT, B.BILLED, NO_IMAGE, None, "IMAGE_OTHER"),
    "other": (K.NO_OUTPUT, B.BILLED, NO_IMAGE, None, "OTHER"),
    "malformed_response": (K.NO_OUTPUT, B.BILLED, NO_IMAGE, None, "MALFORMED_RESPONSE"),
    "max_tokens": (K.NO_OUTPUT, B.BILLED, Money(693 + 400 * 30), None, "MAX_TOKENS"),
    "continuation": (K.NO_OUTPUT, B.BILLED, NO_IMAGE, None, "CONTINUATION"),
    "brand_new_reason": (K.NO_OUTPUT, B.BILLED, NO_IMAGE, None, "BRAND_NEW_REASON"),
    "disabled": (K.AUTH, B.BILLED, NO_IMAGE, None, "PUP_LIMITED_DISABLED"),
    "not_base64": (K.BAD_OUTPUT, B.BILLED, None, None, "cannot be read"),
    "not_json": (K.BAD_OUTPUT, B.BILLED, None, None, "cannot be read"),
    "key_invalid": (K.AUTH, B.NOT_BILLED, None, None, "HTTP 400, INVALID_ARGUMENT, API_KEY_INV"),
    "invalid": (K.INVALID_REQUEST, B.NOT_BILLED, None, None, "HTTP 400, INVALID_ARGUMENT"),
    "precondition": (K.AUTH, B.NOT_BILLED, None, None, "HTTP 400, FAILED_PRECONDITION"),
    "auth": (K.AUTH, B.NOT_BILLED, None, None, "HTTP 401, UNAUTHENTICATED"),
    "credit_empty": (K.QUOTA_EXHAUSTED, B.NOT_BILLED, None, None, "HTTP 402"),
    "forbidden": (K.AUTH, B.NOT_BILLED, None, None, "HTTP 403, PERMISSION_DENIED"),
    "model_retired": (K.FATAL_CONFIG, B.NOT_BILLED, None, None, "should work: one, two"),
    "too_large": (K.INVALID_REQUEST, B.NOT_BILLED, None, None, "HTTP 413"),
    "rate_limited": (K.RATE_LIMITED, B.NOT_BILLED, None, 37.4, "HTTP 429, RESOURCE_EXHAUSTED"),
    "rate_limited_by_header": (K.RATE_LIMITED, B.NOT_BILLED, None, 21.0, "HTTP 429"),
    "rate_limited_in_words": (K.RATE_LIMITED, B.NOT_BILLED, None, 12.5, "HTTP 429"),
    "shared_quota": (K.RATE_LIMITED, B.NOT_BILLED, None, None, "HTTP 429"),
    "quota": (K.QUOTA_EXHAUSTED, B.NOT_BILLED, None, None, "HTTP 429"),
    "free_tier": (K.QUOTA_EXHAUSTED, B.NOT_BILLED, None, None, "HTTP 429"),
    "spend_limit": (K.QUOTA_EXHAUSTED, B.NOT_BILLED, None, None, "HTTP 429"),
    "cancelled": (K.UNKNOWN_OUTCOME, B.MAYBE, None, None, "HTTP 499"),
    "internal": (K.TRANSIENT, B.NOT_BILLED, None, None, "HTTP 500, INTERNAL"),
    "bad_gateway": (K.TRANSIENT, B.NOT_BILLED, None, None, "(HTTP 502)"),
    "overloaded": (K.OVERLOADED, B.NOT_BILLED, None, None, "HTTP 503, UNAVAILABLE"),
    "overloaded_529": (K.OVERLOADED, B.NOT_BILLED, None, None, "HTTP 529"),
    "deadline": (K.UNKNOWN_OUTCOME, B.MAYBE, None, None, "HTTP 504, DEADLINE_EXCEEDED"),
    "gateway_timeout": (K.UNKNOWN_OUTCOME, B.MAYBE, None, None, "(HTTP 504)"),
    "redirect": (K.FATAL_CONFIG, B.NOT_BILLED, None, None, "HTTP 307"),
    "drop": (K.UNKNOWN_OUTCOME, B.MAYBE, None, None, "no answer came"),
    "partial": (K.UNKNOWN_OUTCOME, B.MAYBE, None, None, "no answer came"),
    "never": (K.UNKNOWN_OUTCOME, B.MAYBE, None, None, "no answer came"),
}


@pytest.mark.filterwarnings("ignore:BRAND_NEW_REASON is not a valid")
@pytest.mark.parametrize("answer", FAILURES)
async def test_a_failed_attempt_is_one_request_of_its_kind_and_bill(stub, answer, caplog, request):
    kind, billing, cost, retry_after_s, said = FAILURES[answer]
    stub.answer(answer)
    if answer == "never":
        request.getfixturevalue("out_of_time_once_asked")

    error = await failed(open_gemini(stub.url, alternatives=["one", GEMINI, "two"]))

    assert (error.kind, error.billing, error.cost) == (kind, billing, cost)
    assert error.retry_after_s == retry_after_s
    assert said in str(error)
    assert stub.counts["requests"] == 1
    assert_nothing_of_upstreams(error, caplog)


def test_every_answer_of_the_stub_is_told_apart():
    images = {"ok", "ok_without_usage", "drafts_first", "not_an_image"}

    assert set(GEMINI_ANSWERS) == set(FAILURES) | images


async def test_an_image_costs_what_its_tokens_cost(stub):
    image = await ask(open_gemini(stub.url), references=[PNG, PNG])

    # 12 + 2 x 1,120 in at 1.50, 1,120 out at 30, 90 of thinking at 7.50.
    assert image.cost == Money(round(2252 * 1.5) + 33_600 + 675)
    assert image.cost_basis == "usage"
    assert image.request_id == "stub-1"
    assert '"thoughts_token_count":90' in image.usage


async def test_without_usage_the_listed_price_is_the_cost(stub):
    stub.answer("ok_without_usage")

    image = await ask(open_gemini(stub.url))

    assert image.cost == listed_cost(gemini_price(), prompt="a kitchen", references=0)
    assert (image.cost_basis, image.usage) == ("flat", "")


async def test_drafts_of_the_models_thinking_are_not_the_image(stub):
    stub.answer("drafts_first")

    image = await ask(open_gemini(stub.url))

    assert image.data == stub.requests[0].picture()


@pytest.mark.parametrize("ratio", list(AspectRatio))
async def test_the_ratio_is_always_sent_and_one_image_is_asked_for(stub, ratio):
    await ask(open_gemini(stub.url), planned(model=GEMINI, aspect_ratio=ratio))

    config = stub.requests[0].body["generationConfig"]
    assert config["imageConfig"] == {"aspectRatio": ratio.value, "imageSize": "1K"}
    assert (config["candidateCount"], config["responseModalities"]) == (1, ["IMAGE"])


@pytest.mark.parametrize("mode", list(ReferenceMode))
async def test_references_go_first_unchanged_and_the_text_says_what_they_are_for(stub, mode):
    image = planned(model=GEMINI, reference_mode=mode)

    await ask(open_gemini(stub.url), image, [JPEG, PNG])

    [content] = stub.requests[0].body["contents"]
    types = [part.get("inlineData", {}).get("mime_type") for part in content["parts"]]
    assert types == ["image/jpeg", "image/png", None]
    assert stub.requests[0].references == (JPEG, PNG)
    assert "images 1 to 2" in stub.requests[0].prompt
    assert ("composition" in stub.requests[0].prompt) is (mode != ReferenceMode.STYLE_ONLY)


async def test_what_the_catalogue_chooses_is_sent(stub):
    options = {"thinking_level": "low", "media_resolution": "low", "max_output_tokens": 2000}

    await ask(open_gemini(stub.url, price=gemini_price(options=options, api_version="v1beta")))

    config = stub.requests[0].body["generationConfig"]
    assert list(config["thinkingConfig"].values()) == ["LOW"]
    assert config["mediaResolution"] == "MEDIA_RESOLUTION_LOW"
    assert config["maxOutputTokens"] == 2000
    assert stub.requests[0].path.startswith("/v1beta/models/")


async def test_a_seed_is_repeatable_and_new_for_another_attempt_or_variant(stub):
    provider = open_gemini(stub.url)
    async with aclosing(provider):
        for image, number in ((1, 1), (1, 1), (1, 2), (2, 1)):
            made = token(attempt_no=number)
            await provider.generate(planned(model=GEMINI, variant=image), [], made)

    seeds = [request.body["generationConfig"]["seed"] for request in stub.requests]
    assert seeds[0] == seeds[1]
    assert len(set(seeds)) == 3


async def test_no_seed_is_sent_where_a_model_takes_none(stub):
    await ask(open_gemini(stub.url, price=gemini_price(seeds=False)))

    assert "seed" not in stub.requests[0].body["generationConfig"]


# What the environment can do to the SDK (read in its source), none of which may happen here.
TRAPS = {
    "GOOGLE_API_KEY": "another-key",
    "GEMINI_API_KEY": "another-key",
    "GOOGLE_GENAI_USE_VERTEXAI": "true",
    "GOOGLE_GENAI_USE_ENTERPRISE": "true",
    "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:9",
    "GOOGLE_VERTEX_BASE_URL": "http://127.0.0.1:9",
    "GOOGLE_GENAI_API_VERSION": "v9",
    "GOOGLE_CLOUD_PROJECT": "another-project",
    "GOOGLE_CLOUD_LOCATION": "mars-north1",
    "GOOGLE_GENAI_HTTP_CLIENT": "httpx",
    "GOOGLE_GENAI_CLIENT_MODE": "replay",
    "GOOGLE_GENAI_REPLAYS_DIRECTORY": "/nowhere",
    "GOOGLE_GENAI_REPLAY_ID": "x",
    "GOOGLE_API_USE_CLIENT_CERTIFICATE": "true",
    "GOOGLE_API_USE_MTLS_ENDPOINT": "always",
    "SSL_CERT_FILE": "/nowhere/ca.pem",
    "SSL_CERT_DIR": "/nowhere",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
}


@pytest.mark.parametrize("trap", [*TRAPS, "all of them"])
@pytest.mark.parametrize(
    ("opening", "path", "credential"),
    [
        (open_gemini, "/v1/models/", ("x-goog-api-key", "key-of-ours")),
        (
            open_vertex,
            "/v1beta1/projects/project-of-ours/locations/global/",
            ("authorization", "Bearer token-of-ours"),
        ),
    ],
    ids=["key", "keyless"],
)
async def test_the_environment_changes_nothing_of_what_is_sent(
    stub, monkeypatch, caplog, opening, path, credential, trap
):
    for name in TRAPS if trap == "all of them" else [trap]:
        monkeypatch.setenv(name, TRAPS[name])

    await ask(opening(stub.url))

    [request] = stub.requests
    assert request.path.startswith(path)
    assert request.headers[credential[0]] == credential[1]
    assert caplog.records == []


@pytest.mark.parametrize("opening", [open_gemini, open_vertex])
async def test_the_sdk_keeps_to_our_transport_where_aiohttp_is_installed(
    stub, monkeypatch, opening
):
    monkeypatch.setattr("google.genai._api_client.has_aiohttp", True)
    stub.answer("drop")

    error = await failed(opening(stub.url))

    # The SDK's aiohttp path would have sent it again.
    assert error.kind is K.UNKNOWN_OUTCOME
    assert stub.counts["requests"] == 1


async def test_a_vertex_host_is_never_swapped_for_its_mtls_twin(monkeypatch):
    monkeypatch.setenv("GOOGLE_API_USE_MTLS_ENDPOINT", "always")
    asked = []

    async def note(remote_host, **_more):
        asked.append(remote_host)
        raise OSError

    monkeypatch.setattr("anyio.connect_tcp", note)
    error = await failed(open_vertex(""))

    assert asked == ["aiplatform.googleapis.com"]
    assert (error.kind, error.billing) == (K.TRANSIENT, B.NOT_BILLED)


@pytest.mark.parametrize(
    ("location", "endpoint"),
    [
        ("global", "https://aiplatform.googleapis.com"),
        ("us", "https://aiplatform.us.rep.googleapis.com"),
        ("europe-west4", "https://europe-west4-aiplatform.googleapis.com"),
    ],
)
def test_a_location_has_its_own_host(location, endpoint):
    assert GeminiAccess(vertex=True, project="p", location=location).endpoint == endpoint


def test_a_key_goes_to_the_gemini_api_unless_an_endpoint_is_chosen():
    assert GeminiAccess(api_key="k").endpoint == "https://generativelanguage.googleapis.com"
    assert GeminiAccess(api_key="k", base_url="http://h").endpoint == "http://h"


def test_access_never_shows_its_key():
    assert "key-of-ours" not in repr(GeminiAccess(api_key="key-of-ours"))


async def test_a_deadline_before_anything_was_sent_is_not_billed():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"

        error = await failed(open_gemini(url, price=gemini_price(timeout_s=0.3)))

    assert (error.kind, error.billing) == (K.TRANSIENT, B.NOT_BILLED)


async def test_a_key_that_cannot_be_sent_is_no_bill(stub):
    error = await failed(open_gemini(stub.url, key="key\r\nX-Evil: 1"))

    assert error.billing is B.NOT_BILLED
    assert stub.counts["requests"] == 0


def test_without_a_key_or_a_project_nothing_is_opened():
    with pytest.raises(ProviderError, match="set GEMINI_API_KEY") as caught:
        GeminiProvider(GeminiAccess(), price=gemini_price(), clock=ManualClock())

    assert caught.value.kind is K.AUTH


class Refreshing(google.oauth2.credentials.Credentials):
    """Credentials whose token must be fetched first; how that ends is given."""

    def __init__(self, failure=None):
        super().__init__(token=None)
        self.failure = failure
        self.refreshed = 0

    def refresh(self, request):
        self.refreshed += 1
        if self.failure:
            raise self.failure
        self.token = "a-fresh-token"


async def test_keyless_tokens_are_fetched_when_they_are_needed(stub):
    credentials = Refreshing()

    await ask(open_vertex(stub.url, credentials=credentials))

    assert stub.requests[0].headers["authorization"] == "Bearer a-fresh-token"
    assert (credentials.refreshed, stub.counts["requests"]) == (1, 1)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (auth_exceptions.RefreshError("revoked key-of-ours"), K.AUTH),
        (auth_exceptions.TransportError("no route"), K.TRANSIENT),
    ],
)
async def test_a_token_that_cannot_be_had_is_no_bill(stub, failure, kind):
    error = await failed(open_vertex(stub.url, credentials=Refreshing(failure)))

    assert (error.kind, error.billing) == (kind, B.NOT_BILLED)
    assert "revoked" not in str(error)
    assert stub.counts["requests"] == 0


def test_keyless_access_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))

    with pytest.raises(ProviderError, match="Application Default Credentials") as caught:
        keyless_access(project="p", location="global")

    assert caught.value.kind is K.AUTH
    assert str(tmp_path) not in str(caught.value)


def test_keyless_access_takes_the_project_that_is_set(monkeypatch):
    found = google.auth.credentials.AnonymousCredentials()
    where = "assetgen_pipeline.adapters.providers.gemini.default_credentials"
    monkeypatch.setattr(where, lambda **_: (found, "found"))

    assert keyless_access(project="set", location="us").project == "set"
    assert keyless_access(project="", location="us").project == "found"
    assert keyless_access(project="", location="us").credentials is found


async def test_a_bug_in_front_of_the_wire_is_not_dressed_up(stub, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("assetgen_pipeline.adapters.providers.gemini._contents", broken)

    with pytest.raises(ZeroDivisionError):
        await ask(open_gemini(stub.url))
