"""Prices: the versioned catalogue, and what a request may cost at most."""

import hashlib
import json
from collections.abc import Iterable
from decimal import Decimal

from assetgen_pipeline.domain.errors import PriceUnknown
from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.money import Money, total


class ModelPrice(Value):
    """What one model bills, as far as an upper bound needs it; dollars as decimal text."""

    provider: str
    model: str
    image_usd: Decimal
    """One image at the size that we ask for, the model's own thinking included."""
    reference_usd: Decimal = Decimal(0)
    """One reference image sent along."""
    prompt_usd_per_1k_chars: Decimal = Decimal(0)
    ceiling_factor: Decimal = Decimal(1)
    """What the upper bound multiplies the listed price with (1 where the price is flat)."""
    max_references: int = 6
    nominal: bool = False
    """True where nobody sends a bill: a price to try budgets with."""
    note: str = ""


class Catalogue(Value):
    """All models and prices of one version, with the date and source they rest on."""

    as_of: str
    source: str
    default_models: dict[str, str]
    models: tuple[ModelPrice, ...]

    @property
    def version(self) -> str:
        """`<as_of>+<8 hex of the content>`: names exactly the prices that were used."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()
        return f"{self.as_of}+{hashlib.sha256(content).hexdigest()[:8]}"

    def price(self, provider: str, model: str) -> ModelPrice:
        """The price of a model.

        Raises:
            PriceUnknown: the catalogue does not list it; the message names what it lists.
        """
        for entry in self.models:
            if entry.provider == provider and entry.model == model:
                return entry
        known = ", ".join(sorted(m.model for m in self.models if m.provider == provider))
        message = f"no price for {provider}/{model} (listed: {known or 'none'})"
        raise PriceUnknown(message)

    def default_model(self, provider: str) -> str:
        """The model used when only the provider is named.

        Raises:
            PriceUnknown: the catalogue has no default for this provider.
        """
        if provider not in self.default_models:
            message = f"no default model for provider {provider!r}"
            raise PriceUnknown(message)
        return self.default_models[provider]


def ceiling(price: ModelPrice, *, prompt_chars: int, references: int) -> Money:
    """The most that one attempt may cost, rounded up to a micro once."""
    listed = (
        price.image_usd
        + price.reference_usd * references
        + price.prompt_usd_per_1k_chars * prompt_chars / 1000
    )
    return Money.from_usd(listed * price.ceiling_factor)


def listed_cost(price: ModelPrice, *, prompt_chars: int, references: int) -> Money:
    """The flat price of one image: the actual cost where a provider reports no usage."""
    return ceiling(
        price.model_copy(update={"ceiling_factor": Decimal(1)}),
        prompt_chars=prompt_chars,
        references=references,
    )


def estimate(price: ModelPrice, images: Iterable[tuple[int, int]]) -> Money:
    """The sum of ceilings over `(prompt characters, references)` pairs."""
    return total([ceiling(price, prompt_chars=chars, references=count) for chars, count in images])
