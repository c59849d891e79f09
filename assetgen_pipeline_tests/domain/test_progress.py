"""How far a batch is, and how long it takes from here."""

import pytest

from assetgen_pipeline.domain.outcome import batch_outcome
from assetgen_pipeline.domain.progress import errors_by_reason, seconds_left
from assetgen_pipeline_tests.builders import (
    a_batch,
    a_failed_attempt,
    an_attempt,
    an_image_request,
)


def test_reasons_are_counted_the_most_frequent_first_and_successes_not_at_all():
    scenes = ["S1", "S2", "S3", "S4"]
    batch = a_batch(*[an_image_request(s, row_number=n) for n, s in enumerate(scenes, 1)])
    attempts = [
        a_failed_attempt("S1", code="provider-blocked"),
        a_failed_attempt("S2", code="provider-rejected"),
        a_failed_attempt("S3", code="provider-rejected"),
        an_attempt("S4"),
    ]

    found = errors_by_reason(batch_outcome(batch, None, attempts).images)

    assert list(found.items()) == [("provider-rejected", 2), ("provider-blocked", 1)]


@pytest.mark.parametrize(
    ("done", "total", "since_done", "seconds", "expected"),
    [
        (50, 100, 25, 10, 20.0),
        (100, 100, 50, 10, 0.0),
        (0, 100, 0, 10, None),
        (5, 100, 5, 0, None),
        (120, 100, 20, 10, 0.0),
    ],
)
def test_the_time_left_follows_the_pace_seen(done, total, since_done, seconds, expected):
    left = seconds_left(done=done, total=total, since_done=since_done, seconds=seconds)

    assert left == expected
