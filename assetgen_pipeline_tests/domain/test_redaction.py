"""Redaction: no secret survives, and ordinary text is left as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetgen_pipeline.domain.redaction import REDACTED, redact

SECRET = "CANARY0123456789abcdef"
SIGNED = (
    "https://storage.googleapis.com/b/o.png?X-Goog-Algorithm=GOOG4-RSA-SHA256"
    f"&X-Goog-Credential={SECRET}%2F20260301&X-Goog-Date=20260301T120000Z&X-Goog-Expires=604800"
    f"&X-Goog-SignedHeaders=host&X-Goog-Signature={SECRET}"
)
CARRIERS = [
    SIGNED,
    f"GET {SIGNED} HTTP/1.1",
    f'{{"url": "https://x.test/?a=1&sig={SECRET}"}}',
    f"https://b.s3.test/o?AWSAccessKeyId={SECRET}&Signature={SECRET}",
    f"https://x.test/?GoogleAccessId={SECRET}",
    f"https://x.test/?token={SECRET}#top",
    f"?key={SECRET}",
    f"redirect=https%3A%2F%2Fx.test%2F%3FX-Goog-Signature%3D{SECRET}",
    f"Authorization: Bearer {SECRET}",
    f"authorization: Basic {SECRET}",
    f"{{'Authorization': 'Bearer {SECRET}'}}",
    f"x-goog-api-key: {SECRET}",
    f"token is Bearer {SECRET}.{SECRET}",
    f"GEMINI_API_KEY AIza{SECRET}",
    f"invalid key sk-proj-{SECRET}",
    f"ya29.{SECRET}",
    f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----",
    f"-----BEGIN RSA PRIVATE KEY-----\\n{SECRET}",
    f"postgresql+psycopg://ledger:{SECRET}@db/x",
    f"X-GOOG-SIGNATURE={SECRET}",
    rf"https://b.s3.test/o?a=1\u0026X-Amz-Signature={SECRET}",
    f"u=https%253A%252F%252Fb.s3.test%252Fo%253FX-Amz-Signature%253D{SECRET}",
    f"postgresql+psycopg://ledger:pa/{SECRET}@db/x",
    f"postgresql+psycopg://ledger:pa@{SECRET}@db/x",
    f"[(b'x-goog-api-key', b'{SECRET}')]",
    f"[('authorization', 'Basic {SECRET}')]",
    f"headers={{'Authorization': b'Bearer {SECRET}'}}",
    f"AQ.Ab8{SECRET}",
    f"POST https://hooks.slack.com/services/T01/B01/{SECRET}",
    f"client_secret={SECRET}",
    f"PGPASSWORD={SECRET} psql",
    "cab" * 100 + b"CANARY".hex(),
]
HARMLESS = [
    "batch studio.spring.0123abcd: 3 of 4 images",
    "run_key=spring.csv#17 attempt 2",
    "https://storage.test/b/images/o/ab/abc.png?alt=media",
    "gs://assetgen/outbox/studio/studio.spring.0123abcd/results.csv",
    f"sha256 {'0123456789abcdef' * 4}",
    f"sha512 {'0123456789abcdef' * 8}",
    "the task-force was risk-averse",
    "mail ops@example.test",
    "http://127.0.0.1:8000/people/@ada and https://x.test/@ada",
    "needs authorization, and says so",
    "FAQ. Questions and answers",
    "",
]


@pytest.mark.parametrize("text", CARRIERS)
def test_no_signature_key_or_token_survives(text):
    redacted = redact(text)

    assert SECRET not in redacted
    assert b"CANARY".hex() not in redacted
    assert REDACTED in redacted


@pytest.mark.parametrize("text", HARMLESS)
def test_ordinary_text_is_left_as_it_is(text):
    assert redact(text) == text


def test_what_names_the_object_of_a_link_stays_readable():
    redacted = redact(f"could not open {SIGNED}, tried twice")

    assert redacted.startswith("could not open https://storage.googleapis.com/b/o.png?")
    assert "X-Goog-Expires=604800" in redacted
    assert redacted.endswith("tried twice")


@given(st.sampled_from(CARRIERS), st.text(max_size=40), st.text(max_size=40))
def test_redacting_twice_is_redacting_once(text, before, after):
    once = redact(f"{before} {text} {after}")

    assert SECRET not in once
    assert redact(once) == once


@pytest.mark.parametrize(
    "text",
    ["-----BEGIN X-----" * 4_000, "key=" * 20_000, "authorization:" + " " * 60_000, "://" * 30_000],
)
def test_no_text_takes_longer_than_the_tests_of_this_file_may(text):
    assert len(redact(text * 4)) <= 4 * len(text) * len(REDACTED)
