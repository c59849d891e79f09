"""Money is whole micros; rounding is never in our own favour."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as some

from assetgen_pipeline.domain.money import MAX_MICROS, ZERO, Money, total


@pytest.mark.parametrize(
    ("usd", "micros"),
    [
        ("0", 0),
        ("10", 10_000_000),
        ("0.002", 2000),
        ("0.0000001", 1),
        ("1.0000001", 1_000_001),
        (" 1 ", 1_000_000),
        ("1e-3", 1000),
        (Decimal("2.5"), 2_500_000),
    ],
)
def test_dollars_become_micros(usd, micros):
    assert Money.from_usd(usd) == Money(micros)


@pytest.mark.parametrize(
    "usd",
    [
        "NaN",
        "sNaN",
        "inf",
        "-inf",
        "1e400",
        "-1",
        "-0.0000001",
        "",
        "ten",
        "1,5",
        "$1",
        "1000000001",
        "1e6000000",
    ],
)
def test_what_is_no_amount_is_refused(usd):
    with pytest.raises(ValueError, match="not an amount"):
        Money.from_usd(usd)


@pytest.mark.parametrize("usd", ["0", "25.5", "0.000001", " 1.50 ", "1.0000000", "1e-6"])
def test_what_somebody_typed_is_taken_as_it_is(usd):
    assert Money.exactly(usd).micros == Decimal(usd) * 1_000_000


@pytest.mark.parametrize("usd", ["0.0000001", "1.0000005", "1e-7", f"1.{'0' * 40}1"])
def test_what_somebody_typed_is_never_rounded(usd):
    with pytest.raises(ValueError, match="finer than a millionth"):
        Money.exactly(usd)


@pytest.mark.parametrize("usd", ["NaN", "-1", "ten", "1e400"])
def test_what_somebody_typed_that_is_no_amount_is_refused(usd):
    with pytest.raises(ValueError, match="not an amount"):
        Money.exactly(usd)


@pytest.mark.parametrize(
    "micros", [1.0, True, "1", None, MAX_MICROS + 1, -MAX_MICROS - 1, Decimal(1)]
)
def test_only_sane_whole_numbers_are_micros(micros):
    with pytest.raises(ValueError, match="whole micro-dollars"):
        Money(micros)


@pytest.mark.parametrize(
    ("micros", "usd", "text"),
    [
        (0, "0.000000", "$0.00"),
        (2000, "0.002000", "$0.002"),
        (1, "0.000001", "$0.000001"),
        (12_500_000, "12.500000", "$12.50"),
        (-1_500_000, "-1.500000", "$-1.50"),
    ],
)
def test_amounts_are_written_with_six_digits_for_machines_and_two_or_more_for_people(
    micros, usd, text
):
    assert (Money(micros).usd(), str(Money(micros))) == (usd, text)


@given(some.lists(some.decimals(min_value=0, max_value=1000, places=9), max_size=20))
def test_rounding_up_costs_less_than_a_micro_each(prices):
    rounded = total([Money.from_usd(price) for price in prices]).micros
    exact = sum(prices, Decimal(0)) * 1_000_000
    assert exact <= rounded
    assert rounded < exact + len(prices) or not prices


@given(some.integers(0, MAX_MICROS))
def test_text_and_back_is_the_same_amount(micros):
    assert Money.from_usd(Money(micros).usd()) == Money(micros)


def test_amounts_add_subtract_multiply_and_compare():
    assert Money(5) + Money(3) - Money(1) == Money(7)
    assert Money(5) * 3 == Money(15)
    assert max(Money(5), ZERO) == Money(5)
    assert total([]) == ZERO
