"""Whatever a server answers is one of the eleven kinds, told in our words."""

import json
from contextlib import aclosing
from datetime import UTC, datetime

import httpx2
import openai
import pytest
from google.genai import errors
from hypothesis import example, given
from hypothesis import strategies as st

from assetgen_pipeline.adapters import gemini_answers, openai_answers
from assetgen_pipeline.domain.generation import Billing, ErrorKind, ProviderError
from assetgen_pipeline.testing.provider_stub import ProviderStub
from assetgen_pipeline.testing.stub_answers import StubAnswer, as_json, base64_text
from assetgen_pipeline_tests.hosted_providers import (
    open_gemini,
    open_openai,
    openai_price,
    planned,
    token,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = st.sampled_from(
    [
        *("error", "details", "code", "status", "message", "reason", "@type", "retryDelay"),
        *("violations", "quotaId", "quotaValue", "type", "param", "data", "usage", "b64_json"),
        *("url", "input_tokens", "output_tokens", "input_tokens_details", "image_tokens"),
    ]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["type.googleapis.com/google.rpc.RetryInfo", "9e99s", "secret upstream text"]),
)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
STATUSES = st.integers(300, 599)


def told(error, *kinds):
    assert isinstance(error, ProviderError)
    assert error.kind in (kinds or ErrorKind)
    assert "secret upstream text" not in str(error)
    assert error.retry_after_s is None or 0 <= error.retry_after_s <= 7 * 86_400


@given(STATUSES, DOCUMENTS)
@example(429, {"error": {"details": [{"violations": 5}]}})
def test_any_error_of_gemini_is_one_of_the_kinds(status, document):
    error = errors.APIError(status, document, None)

    told(gemini_answers.error_answer(error, {}, now=NOW))


@given(STATUSES, DOCUMENTS)
def test_any_error_of_openai_is_one_of_the_kinds(status, document):
    response = httpx2.Response(status, request=httpx2.Request("POST", "http://h"))
    body = document.get("error", document) if isinstance(document, dict) else document
    error = openai.APIStatusError("secret upstream text", response=response, body=body)

    told(openai_answers.error_answer(error, {}, now=NOW))


@given(DOCUMENTS | st.dictionaries(NAMES, DOCUMENTS))
def test_any_answer_of_openai_is_an_image_or_one_of_the_kinds(document):
    try:
        answer = openai_answers.read_answer(json.dumps(document).encode(), openai_price())
    except ProviderError as error:
        told(error, ErrorKind.BAD_OUTPUT, ErrorKind.NO_OUTPUT)
    else:
        assert answer.data is not None or answer.url


@pytest.mark.parametrize("opening", [open_gemini, open_openai])
@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, ErrorKind.BAD_OUTPUT), (400, ErrorKind.INVALID_REQUEST), (500, ErrorKind.TRANSIENT)],
)
@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe\xfd", b"[]", b"null", b'"x"', b"7", b'{"error": null}', b"[" * 5000],
    ids=["empty", "no text", "list", "null", "string", "number", "no error", "deep"],
)
async def test_a_body_that_tells_nothing_leaves_the_status_to_judge_by(opening, status, kind, body):
    headers = {"Content-Type": "application/json"}
    with ProviderStub() as stub:
        stub.answer(lambda _: StubAnswer(status=status, body=body, headers=headers))
        url = stub.openai_url if opening is open_openai else stub.url
        async with aclosing(opening(url)) as provider:
            with pytest.raises(ProviderError) as caught:
                await provider.generate(planned(), [], token())

        assert stub.counts["requests"] == 1
    kinds = {kind, ErrorKind.NO_OUTPUT} if status == 200 else {kind}
    assert caught.value.kind in kinds


# New reasons and ids come from whoever answers: the API, or a gateway that somebody took over.
NO_CODE = ("secret upstream text\n", "SAFETY\x00", "https://evil.example/?sig=1", "A" * 10_000)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("text", NO_CODE)
@pytest.mark.parametrize(
    "answer",
    [
        lambda text: {"candidates": [{"finishReason": text}], "responseId": text},
        lambda text: {"promptFeedback": {"blockReason": text}, "responseId": text},
    ],
    ids=["finish", "block"],
)
async def test_a_reason_of_gemini_that_is_no_code_is_not_told(answer, text):
    with ProviderStub() as stub:
        stub.answer(lambda _: as_json(answer(text)))
        async with aclosing(open_gemini(stub.url)) as provider:
            with pytest.raises(ProviderError) as caught:
                await provider.generate(planned(), [], token())

    told(caught.value, ErrorKind.NO_OUTPUT, ErrorKind.CONTENT_BLOCKED)
    assert text not in str(caught.value)
    assert len(str(caught.value)) < 200
    assert caught.value.request_id == ""


@pytest.mark.parametrize("text", NO_CODE)
async def test_a_name_of_a_request_that_is_none_is_not_kept(text):
    part = {"inlineData": {"mimeType": "image/png", "data": base64_text(b"picture")}}
    document = {"candidates": [{"content": {"parts": [part]}}], "responseId": text}
    with ProviderStub() as stub:
        stub.answer(lambda _: as_json(document))
        async with aclosing(open_gemini(stub.url)) as provider:
            image = await provider.generate(planned(), [], token())

    assert (image.data, image.request_id) == (b"picture", "")


@pytest.mark.parametrize("opening", [open_gemini, open_openai])
async def test_an_answer_compressed_against_our_wish_and_broken_may_be_billed(opening):
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    with ProviderStub() as stub:
        stub.answer(lambda _: StubAnswer(body=b"not gzip", headers=headers))
        url = stub.openai_url if opening is open_openai else stub.url
        async with aclosing(opening(url)) as provider:
            with pytest.raises(ProviderError) as caught:
                await provider.generate(planned(), [], token())

    assert caught.value.billing is not Billing.NOT_BILLED
