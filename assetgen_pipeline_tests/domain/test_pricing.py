import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from assetgen_pipeline.adapters.catalogue import load_catalogue
from assetgen_pipeline.domain.errors import PriceUnknown
from assetgen_pipeline.domain.image_request import ReferenceMode
from assetgen_pipeline.domain.model_options import Capabilities
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.pricing import (
    Catalogue,
    ModelPrice,
    RetiredModel,
    TokenCounts,
    TokenRates,
    TokenUsage,
    actual_cost,
    ceiling,
    listed_cost,
    usage_cost,
)
from assetgen_pipeline.domain.prompt_wording import worded_prompt

RATES = TokenRates(
    text_in=Decimal("1.5"),
    image_in=Decimal(2),
    image_out=Decimal(30),
    text_out=Decimal("7.5"),
    cached_text_in=Decimal("0.5"),
    cached_image_in=Decimal(1),
)
BY_TOKENS = ModelPrice(
    provider="gemini",
    model="by-tokens",
    rates=RATES,
    tokens=TokenCounts(image=1000, reference=100, text_out=10),
    ceiling_factor=Decimal("1.25"),
)
PAID = [entry for entry in load_catalogue().models if entry.rates is not None]


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
        retired=(RetiredModel(provider="gemini", model="old", since="2026-01-01"),),
    )


def test_a_price_is_found_by_provider_and_model():
    assert a_catalogue().price("gemini", "pro").model == "pro"


@pytest.mark.parametrize(
    ("provider", "model", "code", "says"),
    [
        (
            "gemini",
            "x",
            "price-unknown",
            "no price for gemini/x; gemini models that work: flash, pro",
        ),
        (
            "nobody",
            "flash",
            "price-unknown",
            "no price for nobody/flash; nobody models that work: none",
        ),
        (
            "gemini",
            "old",
            "provider-config",
            "old was retired on 2026-01-01; gemini models that work: flash, pro",
        ),
        (
            "openai",
            "old",
            "price-unknown",
            "no price for openai/old; openai models that work: flash",
        ),
    ],
)
def test_a_model_that_cannot_be_had_is_an_error_that_names_what_works(provider, model, code, says):
    with pytest.raises(PriceUnknown, match=re.escape(says)) as caught:
        a_catalogue().price(provider, model)

    assert caught.value.code == code


def test_a_provider_has_a_default_model_or_an_error():
    assert a_catalogue().default_model("gemini") == "flash"
    with pytest.raises(PriceUnknown, match="no default model"):
        a_catalogue().default_model("openai")


def test_a_version_names_exactly_the_prices_that_were_used():
    version = a_catalogue().version

    assert re.fullmatch(r"2026-01-15\+[0-9a-f]{8}", version)
    assert version == a_catalogue().version
    assert version != a_catalogue(a_price(image_usd=Decimal("0.040"))).version


def test_a_flat_ceiling_is_image_references_and_prompt_times_the_factor():
    price = a_price(
        reference_usd=Decimal("0.001"),
        prompt_usd_per_1k_chars=Decimal("0.002"),
        ceiling_factor=Decimal("1.5"),
    )

    assert ceiling(price, prompt="x" * 500, references=2) == Money(63_000)
    assert listed_cost(price, prompt="x" * 500, references=2) == Money(42_000)


def test_a_ceiling_by_tokens_counts_every_byte_of_text_as_one():
    # 1,000 at 30, 10 at 7.5, 5 bytes and 32 for the frame at 1.5; all by 1.25.
    assert ceiling(BY_TOKENS, prompt="häuf", references=0) == Money(37_664)
    # 5 bytes are two tokens at most for the listed cost.
    assert listed_cost(BY_TOKENS, prompt="häuf", references=0) == Money(30_078)


def test_a_ceiling_covers_references_and_the_sentence_about_them():
    none, one = (ceiling(BY_TOKENS, prompt="a", references=n) for n in (0, 1))
    longest = max(
        len(worded_prompt("a", mode=mode, references=1).encode()) for mode in ReferenceMode
    )

    assert (one - none).micros == pytest.approx((200 + (longest - 1) * 1.5) * 1.25, abs=1)


def test_a_fraction_of_a_micro_is_rounded_up_once():
    price = a_price(image_usd=Decimal("0.0000001"), reference_usd=Decimal("0.0000001"))

    assert ceiling(price, prompt="", references=6) == Money(1)
    assert usage_cost(RATES, TokenUsage(text_in=1, cached_text_in=1, text_out=1)) == Money(10)


@given(st.integers(0, 1000), st.integers(0, 6), st.decimals(1, 3, places=2))
def test_what_an_image_is_listed_at_never_passes_its_ceiling(chars, references, factor):
    price = a_price(
        reference_usd=Decimal("0.0011"),
        prompt_usd_per_1k_chars=Decimal("0.00013"),
        ceiling_factor=factor,
    )

    prompt = "ü" * chars
    for entry in (price, BY_TOKENS, *PAID):
        assert listed_cost(entry, prompt=prompt, references=references) <= ceiling(
            entry, prompt=prompt, references=references
        )


def test_tokens_are_billed_by_modality_in_whole_micros():
    usage = TokenUsage(
        text_in=10, image_in=100, cached_text_in=4, cached_image_in=20, image_out=1120, text_out=90
    )

    assert usage_cost(RATES, usage) == Money(15 + 200 + 2 + 20 + 33_600 + 675)


def test_a_cache_without_a_rate_of_its_own_is_billed_in_full():
    rates = RATES.model_copy(update={"cached_text_in": None, "cached_image_in": None})

    assert usage_cost(rates, TokenUsage(cached_text_in=10, cached_image_in=10)) == Money(35)


def split(draw, most):
    """Tokens up to `most`, some of them from the cache."""
    tokens = draw(st.integers(0, most))
    cached = draw(st.integers(0, tokens))
    return tokens - cached, cached


@st.composite
def bounded_requests(draw):
    """A model, a request, and a usage report within what the catalogue lists, by its factor."""
    price = draw(st.sampled_from([BY_TOKENS, *PAID]))
    prompt = draw(st.text(min_size=1, max_size=200))
    references = draw(st.integers(0, 6))
    mode = draw(st.sampled_from(list(ReferenceMode)))
    sent = len(worded_prompt(prompt, mode=mode, references=references).encode("utf-8", "replace"))
    factor, tokens = price.ceiling_factor, price.tokens
    text, cached_text = split(draw, int(sent * factor))
    image, cached_image = split(draw, int(tokens.reference * references * factor))
    usage = TokenUsage(
        text_in=text,
        cached_text_in=cached_text,
        image_in=image,
        cached_image_in=cached_image,
        image_out=draw(st.integers(0, int(tokens.image * factor))),
        text_out=draw(st.integers(0, int(tokens.text_out * factor))),
    )
    return price, prompt.encode("utf-8", "replace").decode(), references, usage


@given(bounded_requests())
def test_an_actual_cost_never_passes_the_ceiling(request):
    price, prompt, references, usage = request

    cost, basis = actual_cost(price, usage, prompt=prompt, references=references)

    assert basis == ("usage" if usage.image_out else "flat")
    assert cost <= ceiling(price, prompt=prompt, references=references)


@pytest.mark.parametrize(
    ("price", "usage"),
    [
        (BY_TOKENS, None),
        (BY_TOKENS, TokenUsage(text_in=10)),
        (BY_TOKENS.model_copy(update={"capabilities": Capabilities(usage=False)}), "full"),
        (a_price(), "full"),
    ],
    ids=["no usage", "a delivered image of no tokens", "usage not to be trusted", "flat price"],
)
def test_what_cannot_be_billed_by_tokens_is_billed_at_the_listed_cost(price, usage):
    usage = TokenUsage(image_out=1) if usage == "full" else usage

    cost, basis = actual_cost(price, usage, prompt="a kitchen", references=1)

    assert basis == "flat"
    assert cost == listed_cost(price, prompt="a kitchen", references=1)


@pytest.mark.parametrize(
    "changes",
    [
        {"image_usd": None},
        {"rates": RATES},
        {"tokens": TokenCounts(image=1)},
        {"image_usd": None, "rates": RATES},
        {"image_usd": None, "tokens": TokenCounts(image=1)},
        {"rates": RATES, "tokens": TokenCounts(image=1)},
    ],
)
def test_an_entry_has_exactly_one_kind_of_price(changes):
    with pytest.raises(ValidationError, match="needs a price"):
        a_price(**changes)


@pytest.mark.parametrize("field", ["cached_text_in", "cached_image_in"])
def test_a_cached_token_is_never_dearer(field):
    with pytest.raises(ValidationError, match="cached token"):
        TokenRates(**{**RATES.model_dump(), field: Decimal(3)})


def test_every_amount_of_an_entry_can_be_looked_at():
    assert sorted(BY_TOKENS.amounts()) == sorted(
        map(Decimal, ("0", "0", "1.5", "2", "30", "7.5", "0.5", "1"))
    )
    assert a_price().amounts() == [Decimal(0), Decimal(0), Decimal("0.039")]
