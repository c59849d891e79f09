"""How long a provider asks us to wait."""

from datetime import UTC, datetime

import pytest

from assetgen_pipeline.adapters.retry_hints import (
    duration_s,
    retry_after_s,
    retry_in_words_s,
    used_up_s,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("37.4s", 37.4),
        ("120ms", 0.12),
        ("6m0s", 360),
        ("1h2m", 3720),
        ("1m12.5s", 72.5),
        ("1d", 86_400),
        (" 12S ", 12),
        ("99999h", 604_800),
        ("", None),
        ("12", None),
        ("-3s", None),
        ("soon", None),
        ("12s later", None),
    ],
)
def test_durations_are_read_in_every_form_that_vendors_write(text, seconds):
    assert duration_s(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}, 30),
        ({"retry-after": "Sun, 01 Mar 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "9" * 12}, 604_800),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "NaN"}, None),
        ({"retry-after": "Infinity"}, None),
        ({"retry-after": "a while"}, None),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 +3000000000000"}, None),
        ({"retry-after": "Sun, 01 Mar 3000000000 12:00:30 GMT"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_a_header_says_seconds_or_a_date_and_nothing_else_counts(headers, seconds):
    assert retry_after_s(headers, now=NOW) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Please retry in 12.5s.", 12.5),
        ("RETRY IN 800 ms", 0.8),
        ("retry in a while", None),
        ("", None),
    ],
)
def test_a_sentence_may_say_it(text, seconds):
    assert retry_in_words_s(text) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-remaining-images": "0", "x-ratelimit-reset-images": "6m0s"}, 360),
        ({"x-ratelimit-remaining-anything": " 0 ", "x-ratelimit-reset-anything": "3"}, 3),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "2s",
                "x-ratelimit-remaining-images": "0",
                "x-ratelimit-reset-images": "40s",
            },
            40,
        ),
        ({"x-ratelimit-remaining-images": "1", "x-ratelimit-reset-images": "6m0s"}, None),
        ({"x-ratelimit-remaining-images": "0"}, None),
        ({"x-ratelimit-remaining-images": "0", "x-ratelimit-reset-images": "soon"}, None),
        ({}, None),
    ],
)
def test_only_limits_that_are_used_up_ask_for_a_pause(headers, seconds):
    assert used_up_s(headers) == seconds
