"""When to stop asking a provider at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetgen_pipeline.domain.circuit_breaker import LONGEST_WAIT_S, CircuitBreaker
from assetgen_pipeline.domain.generation import FAILURE_RULES, ErrorKind, ProviderError

STOPS = sorted(kind for kind, rule in FAILURE_RULES.items() if rule.stops)
GIVEN_UP = [ErrorKind.TRANSIENT, ErrorKind.OVERLOADED]


def an_error(kind, **changes):
    return ProviderError("it did not work", kind=kind, **changes)


def opened_by(breaker):
    return breaker.opened_by.kind if breaker.opened_by else None


@pytest.mark.parametrize("kind", STOPS)
def test_what_concerns_the_account_opens_it_at_once(kind):
    breaker = CircuitBreaker()
    breaker.succeeded()

    breaker.failed(an_error(kind), now=0.0)

    assert opened_by(breaker) is kind


@pytest.mark.parametrize("kind", [ErrorKind.INVALID_REQUEST, ErrorKind.UNKNOWN_OUTCOME])
def test_the_tenth_in_a_row_opens_it_and_the_ninth_does_not(kind):
    breaker = CircuitBreaker()
    for _ in range(9):
        breaker.failed(an_error(kind), now=0.0)
    before = opened_by(breaker)

    breaker.failed(an_error(kind), now=0.0)

    assert (before, opened_by(breaker)) == (None, kind)


def test_refused_requests_open_nothing_once_an_image_came():
    breaker = CircuitBreaker()
    breaker.succeeded()

    for _ in range(100):
        breaker.failed(an_error(ErrorKind.INVALID_REQUEST), now=0.0)

    assert opened_by(breaker) is None


@pytest.mark.parametrize("kind", GIVEN_UP)
def test_ten_images_given_up_in_a_row_open_it_however_many_attempts_failed(kind):
    breaker = CircuitBreaker()
    for _ in range(9):
        for _ in range(9):
            breaker.failed(an_error(kind), now=0.0)
        breaker.gave_up(an_error(kind))
    before = opened_by(breaker)

    breaker.gave_up(an_error(kind))

    assert (before, opened_by(breaker)) == (None, kind)


@pytest.mark.parametrize(
    "kind", [ErrorKind.CONTENT_BLOCKED, ErrorKind.NO_OUTPUT, ErrorKind.BAD_OUTPUT]
)
def test_any_answer_proves_that_the_provider_is_there(kind):
    breaker = CircuitBreaker()
    for _ in range(9):
        breaker.failed(an_error(ErrorKind.UNKNOWN_OUTCOME), now=0.0)
    breaker.failed(an_error(kind), now=0.0)
    for _ in range(9):
        breaker.failed(an_error(ErrorKind.UNKNOWN_OUTCOME), now=0.0)

    assert opened_by(breaker) is None


def test_giving_up_on_other_failures_says_nothing_of_the_provider():
    breaker = CircuitBreaker()

    for _ in range(100):
        breaker.gave_up(an_error(ErrorKind.NO_OUTPUT))

    assert opened_by(breaker) is None


def test_rate_limits_are_waited_for_a_quarter_of_an_hour():
    breaker = CircuitBreaker()
    limited = an_error(ErrorKind.RATE_LIMITED)
    breaker.failed(limited, now=50.0)
    breaker.failed(limited, now=50.0 + LONGEST_WAIT_S)
    before = opened_by(breaker)

    breaker.failed(limited, now=50.1 + LONGEST_WAIT_S)

    assert (before, opened_by(breaker)) == (None, ErrorKind.RATE_LIMITED)


def test_an_image_starts_the_wait_for_rate_limits_again():
    breaker = CircuitBreaker()
    limited = an_error(ErrorKind.RATE_LIMITED)
    breaker.failed(limited, now=0.0)
    breaker.succeeded()

    breaker.failed(limited, now=LONGEST_WAIT_S * 2)

    assert opened_by(breaker) is None


def test_a_longer_wait_than_that_is_not_begun():
    breaker = CircuitBreaker()

    breaker.failed(an_error(ErrorKind.RATE_LIMITED, retry_after_s=LONGEST_WAIT_S + 1), now=0.0)

    assert opened_by(breaker) is ErrorKind.RATE_LIMITED


@pytest.mark.parametrize("kind", GIVEN_UP)
def test_nobody_else_may_make_us_wait_longer_than_that_either(kind):
    breaker = CircuitBreaker()
    breaker.failed(an_error(kind, retry_after_s=LONGEST_WAIT_S), now=0.0)
    before = opened_by(breaker)

    breaker.failed(an_error(kind, retry_after_s=LONGEST_WAIT_S + 1), now=0.0)

    assert (before, opened_by(breaker)) == (None, kind)


def test_the_first_reason_stays():
    breaker = CircuitBreaker()

    breaker.failed(an_error(ErrorKind.AUTH), now=0.0)
    breaker.failed(an_error(ErrorKind.QUOTA_EXHAUSTED), now=0.0)

    assert opened_by(breaker) is ErrorKind.AUTH


@given(st.lists(st.sampled_from([None, *(k for k in ErrorKind if k not in STOPS)])))
def test_with_an_image_after_at_most_eight_failures_it_never_opens(endings):
    breaker = CircuitBreaker()
    for index, kind in enumerate(endings):
        if kind is None or index % 9 == 8:
            breaker.succeeded()
        else:
            breaker.failed(an_error(kind), now=float(index))

    assert opened_by(breaker) is None
