"""What statuses and broken connections mean, and what of upstream's words gets through."""

import pytest

from assetgen_pipeline.adapters.paid_wire import Attempt
from assetgen_pipeline.adapters.provider_failures import (
    clean_code,
    clean_request_id,
    failure,
    http_failure,
    lost,
    status_kind,
)
from assetgen_pipeline.adapters.provider_requests import sniffed_type
from assetgen_pipeline.domain.generation import Billing, ErrorKind
from assetgen_pipeline_tests.hosted_providers import token

K, B = ErrorKind, Billing


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, K.BAD_OUTPUT),
        (202, K.BAD_OUTPUT),
        (302, K.FATAL_CONFIG),
        (418, K.INVALID_REQUEST),
        (425, K.TRANSIENT),
        (501, K.FATAL_CONFIG),
        (507, K.TRANSIENT),
        (524, K.UNKNOWN_OUTCOME),
        (777, K.BAD_OUTPUT),
    ],
)
def test_a_status_that_no_table_names_is_judged_by_its_class(status, kind):
    assert status_kind(status) is kind


def test_a_limit_that_lasts_for_hours_is_a_quota():
    short, long = (http_failure(K.RATE_LIMITED, 429, retry_after_s=wait) for wait in (1_800, 1_801))

    assert (short.kind, long.kind) == (K.RATE_LIMITED, K.QUOTA_EXHAUSTED)


@pytest.mark.parametrize(
    ("facts", "kind", "billing"),
    [
        ({}, K.TRANSIENT, B.NOT_BILLED),
        ({"sent": True}, K.UNKNOWN_OUTCOME, B.MAYBE),
        ({"sent": True, "status": 200}, K.UNKNOWN_OUTCOME, B.MAYBE),
        ({"sent": True, "status": 500}, K.TRANSIENT, B.NOT_BILLED),
        ({"sent": True, "status": 200, "too_large": True}, K.BAD_OUTPUT, B.BILLED),
    ],
)
def test_what_is_lost_on_the_way_depends_on_how_far_it_got(facts, kind, billing):
    attempt = Attempt(token())
    for name, value in facts.items():
        setattr(attempt, name, value)

    error = lost(attempt)

    assert (error.kind, error.billing) == (kind, billing)


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_every_kind_has_a_sentence_of_ours(kind):
    assert str(failure(kind, said="X"))


@pytest.mark.parametrize("text", ["", "two words", "<html>", "a" * 65, "7up", None, 7, "a\nb"])
def test_what_does_not_look_like_a_code_is_not_shown(text):
    assert clean_code(text) == ""


@pytest.mark.parametrize("text", ["", "a b", "x" * 129, None, "a\n"])
def test_what_does_not_look_like_a_request_id_is_not_kept(text):
    assert clean_request_id(text) == ""
    assert clean_request_id("req_1-a:b.c") == "req_1-a:b.c"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
    ],
)
def test_a_reference_is_what_its_bytes_are(data, kind):
    assert sniffed_type(data) == kind
