"""Price a batch and hold its money before anything is paid for."""

from collections.abc import Collection, Iterable
from datetime import date, datetime

from assetgen_pipeline.domain.budget import AttemptRecord, BudgetDay, Hold
from assetgen_pipeline.domain.errors import BudgetRefused
from assetgen_pipeline.domain.image_request import (
    MAX_REFERENCES,
    BatchRequests,
    ImageRequest,
    Value,
)
from assetgen_pipeline.domain.money import ZERO, Money, total
from assetgen_pipeline.domain.pricing import Catalogue, ModelPrice, ceiling
from assetgen_pipeline.domain.tally import earlier_of
from assetgen_pipeline.ports.ledger import Ledger


class BudgetHold(Value):
    """The batch's money and whom it pays: the artifact of `budget_hold`."""

    hold: Hold
    estimate: Money
    provider: str
    model: str
    lane: str
    price_version: str
    run_id: str = ""
    """The run that reserved; empty where an earlier release wrote this."""


class Quote(Value):
    """What a batch may cost at most, against what its owner's day has left."""

    estimate: Money
    headroom: Money
    """The owner's, or the deployment's where that has less left."""
    limit: Money
    resets_at: datetime
    budget_date: date
    price_version: str


def row_ceiling(request: ImageRequest, price: ModelPrice) -> Money:
    """The most that the first attempts at all variants of a row may cost."""
    # A pack's size is not known before the reference stage; a hold covers the most it can add.
    references = MAX_REFERENCES if request.ref_pack_id else len(request.reference_urls)
    one = ceiling(
        price,
        prompt=request.prompt,
        references=min(references, price.max_references),
    )
    return one * request.variants


def price_batch(batch: BatchRequests, *, price: ModelPrice) -> Money:
    """The whole batch at worst-case prices."""
    return Money(sum(row_ceiling(request, price).micros for request in batch.requests))


def scarcest_day(owner: str, *, ledger: Ledger) -> BudgetDay:
    """Today's budget that a reservation of an owner meets: its own, or the deployment's."""
    days = [ledger.day(owner), *filter(None, [ledger.project_day()])]
    return min(days, key=lambda day: day.headroom)


def quote_batch(
    batch: BatchRequests, *, catalogue: Catalogue, provider: str, model: str, ledger: Ledger
) -> Quote:
    """Price a dry run and show the headroom, holding nothing.

    Raises:
        PriceUnknown: the catalogue has no price for the model.
    """
    day = scarcest_day(batch.owner, ledger=ledger)
    return Quote(
        estimate=price_batch(batch, price=catalogue.price(provider, model)),
        headroom=day.headroom,
        limit=day.limit,
        resets_at=day.resets_at,
        budget_date=day.budget_date,
        price_version=catalogue.version,
    )


def reserve_budget(  # noqa: PLR0913 - the facts of one reservation
    batch: BatchRequests,
    *,
    run_id: str,
    catalogue: Catalogue,
    provider: str,
    model: str,
    lane: str,
    ledger: Ledger,
    worker: str = "",
    scenes: Collection[str] | None = None,
) -> BudgetHold:
    """Hold what the undelivered images of the batch may cost, or adopt the hold it has.

    `scenes` limits them to some rows; the estimate is the whole batch's.

    Raises:
        BudgetRefused: with how many of the batch's rows would fit now.
        PriceUnknown: the catalogue has no price for the model.
    """
    price = catalogue.price(provider, model)
    estimate = price_batch(batch, price=price)
    missing = missing_by_row(batch, ledger.attempts(batch.batch_id), price=price, scenes=scenes)
    try:
        hold = ledger.reserve(
            owner=batch.owner,
            batch_id=batch.batch_id,
            run_id=run_id,
            amount=total(missing),
            price_version=catalogue.version,
            worker=worker,
        )
    except BudgetRefused as refusal:
        refusal.rows_that_fit = rows_that_fit(missing, refusal.headroom)
        raise
    return BudgetHold(
        hold=hold,
        estimate=estimate,
        provider=provider,
        model=model,
        lane=lane,
        price_version=catalogue.version,
        run_id=run_id,
    )


def missing_by_row(
    batch: BatchRequests,
    attempts: Iterable[AttemptRecord],
    *,
    price: ModelPrice,
    scenes: Collection[str] | None,
) -> list[Money]:
    """What each row's images without a delivery may cost at most, of all rows or of some."""
    ended = earlier_of(attempts).ended
    wanted = [r for r in batch.requests if scenes is None or r.scene_id in scenes]
    return [_missing(request, price, ended) for request in wanted]


def rows_that_fit(rows: Iterable[Money], headroom: Money) -> int:
    """How many rows, from the top, the headroom covers; each given as what it may still cost."""
    left, count = headroom, 0
    for row in rows:
        left -= row
        if left < ZERO:
            break
        count += 1
    return count


def _missing(request: ImageRequest, price: ModelPrice, ended: Collection[str]) -> Money:
    items = [f"{request.scene_id}/{variant}" for variant in range(1, request.variants + 1)]
    left = sum(item not in ended for item in items)
    return Money(row_ceiling(request, price).micros // request.variants * left)
