"""OpenAI and compatible servers through the real SDK against the provider stub."""

from decimal import Decimal

import pytest

from assetgen_pipeline.adapters.openai_answers import token_usage
from assetgen_pipeline.domain.generation import Billing, ErrorKind, ProviderError
from assetgen_pipeline.domain.image_request import AspectRatio, ReferenceMode
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.pricing import ModelPrice, TokenUsage, listed_cost
from assetgen_pipeline.testing.stub_answers import as_json
from assetgen_pipeline.testing.stub_openai import OPENAI_ANSWERS
from assetgen_pipeline_tests.hosted_providers import (
    JPEG,
    OPENAI,
    PNG,
    ask,
    assert_nothing_of_upstreams,
    failed,
    open_openai,
    openai_price,
    planned,
)

K, B = ErrorKind, Billing
# 15 of text at 5 and 1,056 of image at 30 per million.
ONE_IMAGE = Money(75 + 31_680)
LISTED = listed_cost(openai_price(), prompt="a kitchen", references=0)


FAILURES = {
    "blocked": (K.CONTENT_BLOCKED, B.NOT_BILLED, None, None, "HTTP 400, moderation_blocked"),
    "content_policy": (K.CONTENT_BLOCKED, B.NOT_BILLED, None, None, "content_policy_violation"),
    "blocked_by_relay": (K.CONTENT_BLOCKED, B.NOT_BILLED, None, None, "HTTP 451"),
    "invalid": (K.INVALID_REQUEST, B.NOT_BILLED, None, None, "HTTP 400, invalid_value"),
    "unknown_parameter": (K.INVALID_REQUEST, B.NOT_BILLED, None, None, "unknown_parameter"),
    "auth": (K.AUTH, B.NOT_BILLED, None, None, "HTTP 401, invalid_api_key"),
    "credit_empty": (K.QUOTA_EXHAUSTED, B.NOT_BILLED, None, None, "HTTP 402"),
    "forbidden": (K.AUTH, B.NOT_BILLED, None, None, "HTTP 403"),
    "model_retired": (K.FATAL_CONFIG, B.NOT_BILLED, None, None, "should work: one, two"),
    "request_timeout": (K.TRANSIENT, B.NOT_BILLED, None, None, "HTTP 408"),
    "conflict": (K.TRANSIENT, B.NOT_BILLED, None, None, "HTTP 409"),
    "too_large": (K.INVALID_REQUEST, B.NOT_BILLED, None, None, "HTTP 413"),
    "unprocessable": (K.INVALID_REQUEST, B.NOT_BILLED, None, None, "HTTP 422"),
    "rate_limited": (K.RATE_LIMITED, B.NOT_BILLED, None, 7.0, "rate_limit_exceeded"),
    "rate_limited_to_the_ms": (K.RATE_LIMITED, B.NOT_BILLED, None, 1.5, "rate_limit_exceeded"),
    "rate_limited_by_limits": (K.RATE_LIMITED, B.NOT_BILLED, None, 360.0, "rate_limit_exceeded"),
    "shared_quota": (K.RATE_LIMITED, B.NOT_BILLED, None, None, "HTTP 429"),
    "quota": (K.QUOTA_EXHAUSTED, B.NOT_BILLED, None, None, "insufficient_quota"),
    "spend_limit": (K.QUOTA_EXHAUSTED, B.NOT_BILLED, None, None, "billing_hard_limit_reached"),
    "spend_limit_400": (K.QUOTA_EXHAUSTED, B.NOT_BILLED, None, None, "billing_hard_limit_reached"),
    "internal": (K.TRANSIENT, B.NOT_BILLED, None, None, "HTTP 500, server_error"),
    "detail_500": (K.TRANSIENT, B.NOT_BILLED, None, None, "HTTP 500"),
    "bad_gateway": (K.TRANSIENT, B.NOT_BILLED, None, None, "HTTP 502"),
    "overloaded": (K.OVERLOADED, B.NOT_BILLED, None, None, "HTTP 503"),
    "overloaded_529": (K.OVERLOADED, B.NOT_BILLED, None, None, "HTTP 529"),
    "deadline": (K.UNKNOWN_OUTCOME, B.MAYBE, None, None, "HTTP 504"),
    "gateway_timeout": (K.UNKNOWN_OUTCOME, B.MAYBE, None, None, "HTTP 504"),
    "edge_timeout": (K.UNKNOWN_OUTCOME, B.MAYBE, None, None, "HTTP 524"),
    "edge_unreachable": (K.TRANSIENT, B.NOT_BILLED, None, None, "HTTP 522"),
    "redirect": (K.FATAL_CONFIG, B.NOT_BILLED, None, None, "HTTP 307"),
    "no_image": (K.NO_OUTPUT, B.BILLED, ONE_IMAGE, None, "without an image"),
    "not_base64": (K.BAD_OUTPUT, B.BILLED, ONE_IMAGE, None, "not base64"),
    "not_json": (K.BAD_OUTPUT, B.BILLED, None, None, "cannot be read"),
    "ok_private_url": (K.FATAL_CONFIG, B.BILLED, LISTED, None, "address not permitted"),
    "drop": (K.UNKNOWN_OUTCOME, B.MAYBE, None, None, "no answer came"),
    "partial": (K.UNKNOWN_OUTCOME, B.MAYBE, None, None, "no answer came"),
    "never": (K.UNKNOWN_OUTCOME, B.MAYBE, None, None, "no answer came"),
}


@pytest.mark.parametrize("answer", FAILURES)
async def test_a_failed_attempt_is_one_request_of_its_kind_and_bill(stub, answer, caplog, request):
    kind, billing, cost, retry_after_s, said = FAILURES[answer]
    stub.answer(answer)
    if answer == "never":
        request.getfixturevalue("out_of_time_once_asked")
    provider = open_openai(stub.openai_url, alternatives=["one", OPENAI, "two"])

    error = await failed(provider)

    assert (error.kind, error.billing, error.cost) == (kind, billing, cost)
    assert error.retry_after_s == retry_after_s
    assert said in str(error)
    assert stub.counts["requests"] == 1
    assert_nothing_of_upstreams(error, caplog)


def test_every_answer_of_the_stub_is_told_apart():
    images = {"ok", "ok_without_usage", "ok_odd_usage", "ok_and_used_up", "ok_url", "not_an_image"}

    assert set(OPENAI_ANSWERS) == set(FAILURES) | images


async def test_an_image_costs_what_its_tokens_cost(stub):
    image = await ask(open_openai(stub.openai_url))

    assert (image.cost, image.cost_basis) == (ONE_IMAGE, "usage")
    assert (image.request_id, image.pause_s) == ("req_1", None)
    assert '"output_tokens": 1056' in image.usage
    assert image.data == stub.requests[0].picture()


async def test_references_cost_what_their_tokens_cost(stub):
    image = await ask(open_openai(stub.openai_url), references=[PNG, JPEG])

    assert image.cost == ONE_IMAGE + Money(2 * 700 * 8)


@pytest.mark.parametrize("answer", ["ok_without_usage", "ok_odd_usage"])
async def test_without_usage_that_makes_sense_the_listed_price_is_the_cost(stub, answer):
    stub.answer(answer)

    image = await ask(open_openai(stub.openai_url))

    assert (image.cost, image.cost_basis, image.usage) == (LISTED, "flat", "")


async def test_usage_of_a_server_that_is_not_to_be_believed_is_left_aside(stub):
    image = await ask(open_openai(stub.openai_url, price=openai_price(usage=False)))

    assert (image.cost, image.cost_basis) == (LISTED, "flat")


async def test_a_server_of_ones_own_has_the_flat_price_of_its_entry(stub):
    price = ModelPrice(provider="openai", model="flux", image_usd=Decimal("0.001"))

    image = await ask(open_openai(stub.openai_url, price=price, key=""), planned(model="flux"))

    assert (image.cost, image.cost_basis) == (Money(1000), "flat")


async def test_a_limit_that_is_used_up_asks_for_a_pause(stub):
    stub.answer("ok_and_used_up")

    assert (await ask(open_openai(stub.openai_url))).pause_s == 72.5


@pytest.mark.parametrize(
    ("ratio", "size"), [("1:1", "1024x1024"), ("16:9", "1024x576"), ("3:4", "768x1024")]
)
async def test_one_image_of_the_ratios_own_size_is_asked_for(stub, ratio, size):
    image = planned(model=OPENAI, aspect_ratio=AspectRatio(ratio))

    await ask(open_openai(stub.openai_url), image)

    body = stub.requests[0].body
    assert (body["n"], body["size"], body["quality"]) == (1, size, "medium")
    assert {"seed", "response_format"}.isdisjoint(body)


async def test_what_the_catalogue_chooses_is_sent(stub):
    options = {
        "quality": "",
        "output_format": "",
        "sizes": {AspectRatio.SQUARE: "512x512"},
        "extra_body": {"num_inference_steps": 8},
    }
    price = openai_price(options=options, seeds=True, response_format="b64_json")

    await ask(open_openai(stub.openai_url, price=price))

    body = dict(stub.requests[0].body)
    assert isinstance(body.pop("seed"), int)
    assert body == {
        "model": OPENAI,
        "prompt": "a kitchen",
        "n": 1,
        "size": "512x512",
        "response_format": "b64_json",
        "num_inference_steps": 8,
        "file_fields": (),
    }


@pytest.mark.parametrize("field", ["image", "image[]"])
@pytest.mark.parametrize("references", [[PNG], [JPEG, PNG]], ids=["one", "two"])
async def test_references_go_as_files_of_an_edit_unchanged(stub, field, references):
    price = openai_price(image_field=field)
    image = planned(model=OPENAI, reference_mode=ReferenceMode.STYLE_AND_COMPOSITION)

    await ask(open_openai(stub.openai_url, price=price), image, references)

    [request] = stub.requests
    assert request.path == "/v1/images/edits"
    assert request.references == tuple(references)
    assert request.body["file_fields"] == (field,) * len(references)
    assert "composition" in request.prompt
    assert (request.body["n"], request.body["size"]) == ("1", "1024x1024")


async def test_an_image_by_url_is_downloaded_from_the_endpoint(stub):
    stub.answer("ok_url")

    image = await ask(open_openai(stub.openai_url))

    assert image.data == stub.requests[0].picture()
    assert (stub.counts["requests"], stub.counts["downloads"]) == (1, 1)


async def test_a_download_is_tried_again_and_the_generation_is_not(stub):
    stub.answer("ok_url")
    stub.failing_downloads = 2

    image = await ask(open_openai(stub.openai_url))

    assert image.data == stub.requests[0].picture()
    assert (stub.counts["requests"], stub.counts["downloads"]) == (1, 3)


async def test_an_image_that_is_paid_and_cannot_be_had_is_not_paid_again(stub):
    stub.answer("ok_url")
    stub.failing_downloads = 9

    error = await failed(open_openai(stub.openai_url))

    # A kind that ends the image.
    assert (error.kind, error.billing) == (K.INVALID_REQUEST, B.BILLED)
    assert (error.cost, error.cost_basis) == (LISTED, "flat")
    assert "response_format" in str(error)
    assert (stub.counts["requests"], stub.counts["downloads"]) == (1, 3)


TRAPS = {
    "OPENAI_API_KEY": "another-key",
    "OPENAI_ADMIN_KEY": "another-key",
    "OPENAI_BASE_URL": "http://127.0.0.1:9",
    "OPENAI_ORG_ID": "another-organization",
    "OPENAI_PROJECT_ID": "another-project",
    "OPENAI_CUSTOM_HEADERS": "Authorization: Bearer another\nContent-Type: text/plain\nX-Evil: 1",
    "OPENAI_API_TYPE": "azure",
    "OPENAI_API_VERSION": "1999-01-01",
    "AZURE_OPENAI_ENDPOINT": "http://127.0.0.1:9",
    "OPENAI_LOG": "debug",
    "SSL_CERT_FILE": "/nowhere/ca.pem",
    "SSL_CERT_DIR": "/nowhere",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
}


@pytest.mark.parametrize("trap", [*TRAPS, "all of them"])
@pytest.mark.parametrize("references", [[], [PNG]], ids=["generation", "edit"])
async def test_the_environment_changes_nothing_of_what_is_sent(stub, monkeypatch, trap, references):
    image = planned(model=OPENAI)
    await ask(open_openai(stub.openai_url), image, references)
    for name in TRAPS if trap == "all of them" else [trap]:
        monkeypatch.setenv(name, TRAPS[name])

    await ask(open_openai(stub.openai_url), image, references)

    without, within = (
        {
            **request.headers,
            "x-client-request-id": "",
            "content-type": request.headers["content-type"].split("boundary")[0],
        }
        for request in stub.requests
    )
    assert within == without
    assert within["authorization"] == "Bearer key-of-ours"
    assert stub.requests[0].body == stub.requests[1].body


async def test_openai_itself_is_asked_where_no_endpoint_is_chosen(monkeypatch):
    asked = []

    async def note(remote_host, **_more):
        asked.append(remote_host)
        raise OSError

    monkeypatch.setattr("anyio.connect_tcp", note)
    error = await failed(open_openai(""))

    assert asked == ["api.openai.com"]
    assert (error.kind, error.billing) == (K.TRANSIENT, B.NOT_BILLED)


def test_openai_without_a_key_is_not_opened():
    with pytest.raises(ProviderError, match="set OPENAI_API_KEY") as caught:
        open_openai("", key="")

    assert caught.value.kind is K.AUTH


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ([], K.BAD_OUTPUT),
        ("text", K.BAD_OUTPUT),
        ({}, K.NO_OUTPUT),
        ({"data": "none"}, K.NO_OUTPUT),
        ({"data": ["none"]}, K.NO_OUTPUT),
        ({"data": [{"b64_json": None, "url": None}]}, K.NO_OUTPUT),
        ({"data": [{"b64_json": 7, "url": 7}]}, K.NO_OUTPUT),
    ],
)
async def test_answers_in_other_shapes_are_taken_for_what_they_are(stub, document, kind):
    stub.answer(lambda _: as_json(document))

    error = await failed(open_openai(stub.openai_url))

    assert (error.kind, error.billing, error.cost) == (kind, B.BILLED, None)


async def test_an_answer_that_is_no_image_and_no_error_is_not_taken_for_one(stub):
    stub.answer(lambda _: as_json({"job": 1}, status=202))

    error = await failed(open_openai(stub.openai_url))

    assert (error.kind, error.billing) == (K.BAD_OUTPUT, B.BILLED)


@pytest.mark.parametrize(
    ("report", "usage"),
    [
        (
            {
                "input_tokens": 100,
                "input_tokens_details": {
                    "text_tokens": 40,
                    "image_tokens": 60,
                    "cached_tokens": 30,
                    "cached_tokens_details": {"image_tokens": 20, "text_tokens": 10},
                },
                "output_tokens": 50,
                "output_tokens_details": {"image_tokens": 45, "text_tokens": 5},
            },
            TokenUsage(
                text_in=30,
                image_in=40,
                cached_text_in=10,
                cached_image_in=20,
                image_out=45,
                text_out=5,
            ),
        ),
        ({"input_tokens": 3, "output_tokens": 4}, TokenUsage(text_in=3, image_out=4)),
        # Parts that pass their whole are cut to it; nothing is counted twice or below zero.
        (
            {
                "input_tokens": 5,
                "input_tokens_details": {"image_tokens": 9, "cached_tokens": 9},
                "output_tokens": 4,
                "output_tokens_details": {"text_tokens": 9},
            },
            TokenUsage(image_in=5, text_out=4),
        ),
        ({}, None),
        (None, None),
        ({"input_tokens": True, "output_tokens": 4}, None),
        ({"input_tokens": 1.5, "output_tokens": 4}, None),
        ({"input_tokens": 1, "output_tokens": 10**9}, None),
    ],
)
def test_usage_is_read_by_modality_or_not_at_all(report, usage):
    assert token_usage(report) == usage
