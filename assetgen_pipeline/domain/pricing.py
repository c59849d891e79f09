"""Prices: the versioned catalogue, what a request may cost at most, and what it did cost."""

import hashlib
import json
from decimal import Decimal
from typing import Self

from pydantic import Field, model_validator

from assetgen_pipeline.domain.errors import ModelUnavailable, PriceUnknown
from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.model_options import Capabilities, RateLimits, RequestOptions
from assetgen_pipeline.domain.money import MICROS_PER_USD, Money
from assetgen_pipeline.domain.prompt_wording import most_text_bytes

# What a vendor's tokenizer adds to a text for roles and separators.
_FRAME_TOKENS = 32
_BYTES_PER_TOKEN = 4


class TokenRates(Value):
    """US dollars per million tokens, which is also micros per token."""

    text_in: Decimal
    image_in: Decimal
    image_out: Decimal
    text_out: Decimal = Decimal(0)
    """Text and thinking."""
    cached_text_in: Decimal | None = None
    cached_image_in: Decimal | None = None

    @model_validator(mode="after")
    def _cache_is_no_dearer(self) -> Self:
        for cached, full in (
            (self.cached_text_in, self.text_in),
            (self.cached_image_in, self.image_in),
        ):
            if cached is not None and cached > full:
                message = "a cached token cannot cost more than one that is not"
                raise ValueError(message)
        return self

    def amounts(self) -> list[Decimal]:
        """Every rate that is set."""
        return [rate for rate in self.model_dump().values() if rate is not None]


class TokenCounts(Value):
    """How many tokens one image is listed with."""

    image: int = Field(ge=1)
    """One image at the size that we ask for."""
    reference: int = Field(0, ge=0)
    """One reference image sent along."""
    text_out: int = Field(0, ge=0)
    """Text and thinking around one image."""


class TokenUsage(Value):
    """What a provider says that one request used; no token stands in two fields."""

    text_in: int = Field(0, ge=0)
    image_in: int = Field(0, ge=0)
    cached_text_in: int = Field(0, ge=0)
    cached_image_in: int = Field(0, ge=0)
    image_out: int = Field(0, ge=0)
    text_out: int = Field(0, ge=0)


class ModelPrice(Value):
    """One model of the catalogue: what it bills, what to send it, what it can do.

    The price is flat (`image_usd`) or goes by tokens (`rates` and `tokens`).
    """

    provider: str
    model: str
    image_usd: Decimal | None = None
    """One image at the size that we ask for, the model's own thinking included."""
    reference_usd: Decimal = Decimal(0)
    """One reference image sent along."""
    prompt_usd_per_1k_chars: Decimal = Decimal(0)
    rates: TokenRates | None = None
    tokens: TokenCounts | None = None
    ceiling_factor: Decimal = Decimal(1)
    """What the upper bound multiplies the listed price with (1 where the price is flat)."""
    max_references: int = Field(6, ge=0)
    nominal: bool = False
    """True where nobody sends a bill: a price to try budgets with."""
    options: RequestOptions = RequestOptions()
    capabilities: Capabilities = Capabilities()
    limits: RateLimits = RateLimits()
    as_of: str = ""
    source: str = ""
    note: str = ""

    @model_validator(mode="after")
    def _one_price(self) -> Self:
        by_tokens = self.rates is not None and self.tokens is not None
        if (self.image_usd is None) is not by_tokens or (self.rates is None) is not (
            self.tokens is None
        ):
            message = "needs a price: either image_usd, or both rates and tokens"
            raise ValueError(message)
        return self

    def amounts(self) -> list[Decimal]:
        """Every price of the entry."""
        flat = [self.reference_usd, self.prompt_usd_per_1k_chars]
        flat += [] if self.image_usd is None else [self.image_usd]
        return flat + ([] if self.rates is None else self.rates.amounts())


class RetiredModel(Value):
    """A model that its vendor has shut down."""

    provider: str
    model: str
    since: str
    """The date of the end, ISO 8601."""


class Catalogue(Value):
    """All models and prices of one version, with the date and source they rest on."""

    as_of: str
    source: str
    default_models: dict[str, str]
    models: tuple[ModelPrice, ...]
    retired: tuple[RetiredModel, ...] = ()

    @property
    def version(self) -> str:
        """`<as_of>+<8 hex of the content>`: names exactly the prices that were used."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()
        return f"{self.as_of}+{hashlib.sha256(content).hexdigest()[:8]}"

    def price(self, provider: str, model: str) -> ModelPrice:
        """The catalogue's entry for a model.

        Raises:
            PriceUnknown: it is not listed, `ModelUnavailable` where it is retired; the
                message names what works.
        """
        for entry in self.models:
            if entry.provider == provider and entry.model == model:
                return entry
        known = self.models_of(provider)
        works = f"{provider} models that work: {', '.join(known) or 'none'}"
        for end in self.retired:
            if end.provider == provider and end.model == model:
                message = f"{model} was retired on {end.since}; {works}"
                raise ModelUnavailable(message)
        message = f"the catalogue has no price for {provider}/{model}; {works}"
        raise PriceUnknown(message)

    def models_of(self, provider: str) -> list[str]:
        """The ids that work with a provider, in order."""
        return sorted(entry.model for entry in self.models if entry.provider == provider)

    def default_model(self, provider: str) -> str:
        """The model used when only the provider is named.

        Raises:
            PriceUnknown: the catalogue has no default for this provider.
        """
        if provider not in self.default_models:
            message = f"no default model for provider {provider!r}"
            raise PriceUnknown(message)
        return self.default_models[provider]


def ceiling(price: ModelPrice, *, prompt: str, references: int) -> Money:
    """The most that one attempt may cost, rounded up to a micro once.

    No tokenizer makes more tokens of a text than it has bytes.
    """
    text = most_text_bytes(prompt, references=references) + _FRAME_TOKENS
    listed = _listed(price, prompt=prompt, references=references, text_tokens=text)
    return _money(listed * price.ceiling_factor)


def listed_cost(price: ModelPrice, *, prompt: str, references: int) -> Money:
    """What one image is expected to cost: booked where a provider reports no usage."""
    text = most_text_bytes(prompt, references=references) // _BYTES_PER_TOKEN + 1
    return _money(_listed(price, prompt=prompt, references=references, text_tokens=text))


def usage_cost(rates: TokenRates, usage: TokenUsage) -> Money:
    """What the tokens used cost, rounded up to a micro once; unlisted cache rates are full."""
    cached_text = rates.text_in if rates.cached_text_in is None else rates.cached_text_in
    cached_image = rates.image_in if rates.cached_image_in is None else rates.cached_image_in
    return _money(
        rates.text_in * usage.text_in
        + rates.image_in * usage.image_in
        + cached_text * usage.cached_text_in
        + cached_image * usage.cached_image_in
        + rates.image_out * usage.image_out
        + rates.text_out * usage.text_out
    )


def actual_cost(
    price: ModelPrice, usage: TokenUsage | None, *, prompt: str, references: int
) -> tuple[Money, str]:
    """What an image cost and on which basis: `usage`, or `flat` where that cannot be used."""
    if price.rates is None or usage is None or not price.capabilities.usage or not usage.image_out:
        return listed_cost(price, prompt=prompt, references=references), "flat"
    return usage_cost(price.rates, usage), "usage"


def _listed(price: ModelPrice, *, prompt: str, references: int, text_tokens: int) -> Decimal:
    """The listed price in micros."""
    if price.rates is None or price.tokens is None:
        usd = (
            (price.image_usd or Decimal(0))
            + price.reference_usd * references
            + price.prompt_usd_per_1k_chars * len(prompt) / 1000
        )
        return usd * MICROS_PER_USD
    return (
        price.rates.image_out * price.tokens.image
        + price.rates.text_out * price.tokens.text_out
        + price.rates.image_in * price.tokens.reference * references
        + price.rates.text_in * text_tokens
    )


def _money(micros: Decimal) -> Money:
    return Money.from_usd(micros / MICROS_PER_USD)
