import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetgen_pipeline.domain.errors import PriceUnknown
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.domain.pricing import (
    Catalogue,
    ModelPrice,
    ceiling,
    estimate,
    listed_cost,
)


def a_price(**changes):
    return ModelPrice(
        **{"provider": "gemini", "model": "flash", "image_usd": Decimal("0.039"), **changes}
    )


def a_catalogue(*models):
    return Catalogue(
        as_of="2026-01-15",
        source="https://example.com/prices",
        default_models={"gemini": "flash"},
        models=models or (a_price(), a_price(model="pro"), a_price(provider="openai")),
    )


def test_a_price_is_found_by_provider_and_model():
    assert a_catalogue().price("gemini", "pro").model == "pro"


@pytest.mark.parametrize(
    ("provider", "model", "listed"), [("gemini", "x", "flash, pro"), ("nobody", "flash", "none")]
)
def test_no_price_is_an_error_that_names_what_is_listed(provider, model, listed):
    with pytest.raises(PriceUnknown, match=re.escape(f"(listed: {listed})")):
        a_catalogue().price(provider, model)


def test_a_provider_has_a_default_model_or_an_error():
    assert a_catalogue().default_model("gemini") == "flash"
    with pytest.raises(PriceUnknown, match="no default model"):
        a_catalogue().default_model("openai")


def test_a_version_names_exactly_the_prices_that_were_used():
    version = a_catalogue().version

    assert re.fullmatch(r"2026-01-15\+[0-9a-f]{8}", version)
    assert version == a_catalogue().version
    assert version != a_catalogue(a_price(image_usd=Decimal("0.040"))).version


def test_a_ceiling_is_image_references_and_prompt_times_the_factor():
    price = a_price(
        reference_usd=Decimal("0.001"),
        prompt_usd_per_1k_chars=Decimal("0.002"),
        ceiling_factor=Decimal("1.5"),
    )

    assert ceiling(price, prompt_chars=500, references=2) == Money(63_000)
    assert listed_cost(price, prompt_chars=500, references=2) == Money(42_000)


def test_a_fraction_of_a_micro_is_rounded_up_once():
    price = a_price(image_usd=Decimal("0.0000001"), reference_usd=Decimal("0.0000001"))

    assert ceiling(price, prompt_chars=0, references=6) == Money(1)


def test_an_estimate_is_the_sum_of_ceilings():
    assert estimate(a_price(), [(10, 0), (20, 3)]) == Money(78_000)
    assert estimate(a_price(), []) == ZERO


@given(st.integers(0, 1000), st.integers(0, 6), st.decimals(1, 3, places=2))
def test_what_an_image_is_listed_at_never_passes_its_ceiling(chars, references, factor):
    price = a_price(
        reference_usd=Decimal("0.0011"),
        prompt_usd_per_1k_chars=Decimal("0.00013"),
        ceiling_factor=factor,
    )

    assert listed_cost(price, prompt_chars=chars, references=references) <= ceiling(
        price, prompt_chars=chars, references=references
    )
