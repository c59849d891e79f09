"""Price a batch and hold its money before anything is paid for."""

from collections.abc import Iterable
from datetime import date

from assetgen_pipeline.domain.budget import AttemptRecord, Hold
from assetgen_pipeline.domain.errors import BudgetRefused
from assetgen_pipeline.domain.image_request import BatchRequests, ImageRequest, Value
from assetgen_pipeline.domain.money import ZERO, Money
from assetgen_pipeline.domain.pricing import Catalogue, ModelPrice, ceiling
from assetgen_pipeline.ports import Ledger

# A pack's size is not known before the reference stage; a hold covers the most it can add.
_MOST_REFERENCES = 6


class BudgetHold(Value):
    """The batch's money and whom it pays: the artifact of `budget_hold`."""

    hold: Hold
    estimate: Money
    provider: str
    model: str
    lane: str
    price_version: str


class Quote(Value):
    """What a batch may cost at most, against what its owner's day has left."""

    estimate: Money
    headroom: Money
    limit: Money
    budget_date: date
    price_version: str


def row_ceiling(request: ImageRequest, price: ModelPrice) -> Money:
    """The most that the first attempts at all variants of a row may cost."""
    named = len(request.reference_urls)
    references = _MOST_REFERENCES if request.ref_pack_id else named
    one = ceiling(
        price,
        prompt_chars=len(request.prompt),
        references=min(references, price.max_references),
    )
    return one * request.variants


def price_batch(batch: BatchRequests, *, price: ModelPrice) -> Money:
    """The whole batch at worst-case prices."""
    return Money(sum(row_ceiling(request, price).micros for request in batch.requests))


def quote_batch(
    batch: BatchRequests, *, catalogue: Catalogue, provider: str, model: str, ledger: Ledger
) -> Quote:
    """Price a dry run and show the headroom, holding nothing.

    Raises:
        PriceUnknown: the catalogue has no price for the model.
    """
    day = ledger.day(batch.owner)
    return Quote(
        estimate=price_batch(batch, price=catalogue.price(provider, model)),
        headroom=day.headroom,
        limit=day.limit,
        budget_date=day.budget_date,
        price_version=catalogue.version,
    )


def reserve_budget(
    batch: BatchRequests,
    *,
    run_id: str,
    catalogue: Catalogue,
    provider: str,
    model: str,
    lane: str,
    ledger: Ledger,
) -> BudgetHold:
    """Hold what the undelivered images of the batch may cost, or adopt the hold it has.

    Raises:
        BudgetRefused: with how many of the batch's rows would fit now.
        PriceUnknown: the catalogue has no price for the model.
    """
    price = catalogue.price(provider, model)
    estimate = price_batch(batch, price=price)
    delivered = _delivered_items(ledger.attempts(batch.batch_id))
    missing = sum(_missing(request, price, delivered).micros for request in batch.requests)
    try:
        hold = ledger.reserve(
            owner=batch.owner,
            batch_id=batch.batch_id,
            run_id=run_id,
            amount=Money(missing),
            price_version=catalogue.version,
        )
    except BudgetRefused as refusal:
        refusal.rows_that_fit = rows_that_fit(batch.requests, price, refusal.headroom)
        raise
    return BudgetHold(
        hold=hold,
        estimate=estimate,
        provider=provider,
        model=model,
        lane=lane,
        price_version=catalogue.version,
    )


def rows_that_fit(requests: Iterable[ImageRequest], price: ModelPrice, headroom: Money) -> int:
    """How many rows, from the top, the headroom covers."""
    left, count = headroom, 0
    for request in requests:
        left -= row_ceiling(request, price)
        if left < ZERO:
            break
        count += 1
    return count


def _delivered_items(attempts: Iterable[AttemptRecord]) -> set[str]:
    return {attempt.item_key for attempt in attempts if attempt.image is not None}


def _missing(request: ImageRequest, price: ModelPrice, delivered: set[str]) -> Money:
    items = [f"{request.scene_id}/{variant}" for variant in range(1, request.variants + 1)]
    undelivered = sum(item not in delivered for item in items)
    return Money(row_ceiling(request, price).micros // request.variants * undelivered)
