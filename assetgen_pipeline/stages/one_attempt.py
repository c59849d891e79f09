"""One paid attempt at one image: intent, call, keep, book. Nothing here tries again.

`buy_image` ends with the image in the bucket and out of memory; `book_attempt` does what
is left, which needs no image.
"""

import asyncio
from dataclasses import dataclass

from assetgen_pipeline.domain.budget import AttemptRequest, AttemptToken, Hold, StoredImage
from assetgen_pipeline.domain.errors import AssetgenError, StorageUnavailable
from assetgen_pipeline.domain.generation import (
    Billing,
    ErrorKind,
    PlannedImage,
    ProviderError,
    ProviderImage,
)
from assetgen_pipeline.ports.images import ImageProvider
from assetgen_pipeline.ports.ledger import Ledger
from assetgen_pipeline.stages.attempt_log import log_attempt
from assetgen_pipeline.stages.keep_image import (
    Keeping,
    Kept,
    PaidImage,
    keep_image,
    keep_thumbnail,
)
from assetgen_pipeline.stages.pacer import Pacer


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempting:
    """What an attempt needs."""

    image: PlannedImage
    request: AttemptRequest
    hold: Hold
    provider: ImageProvider
    pacer: Pacer
    keeping: Keeping


@dataclass(frozen=True, slots=True, kw_only=True)
class Bought:
    """A paid call that is over, still to be booked; holds no image."""

    token: AttemptToken
    latency_ms: int
    bill: ProviderImage
    kept: Kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A call that failed, still to be booked."""

    token: AttemptToken
    latency_ms: int
    error: ProviderError


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How an attempt ended, when it was booked."""

    image: StoredImage | None = None
    failure: ProviderError | None = None
    trouble: AssetgenError | None = None
    """Why nothing more should be bought now, though this attempt is booked."""


async def buy_image(attempting: Attempting, turn: int) -> Bought | Failed:
    """Make one paid call and put the image into the bucket, with its receipt.

    Gives the turn back when the call is over. What it returns is to be booked.

    Raises:
        BudgetRefused: nothing was sent, because no cover is left for it.
        HoldNotOpen, LedgerUnavailable, ObjectMissing, StorageUnavailable: nothing was sent,
            or it was, and its receipt or its open intent says so.
    """
    called = await _call(attempting, turn)
    if isinstance(called, Failed):
        return called
    kept = await keep_image(called, attempting.keeping)
    return Bought(token=called.token, latency_ms=called.latency_ms, bill=called.bill, kept=kept)


async def book_attempt(attempting: Attempting, over: Bought | Failed) -> Done:
    """Book a call that is over; where an image came, store its thumbnail first.

    Raises:
        LedgerUnavailable, StorageUnavailable: its receipt or its open intent says what it cost.
    """
    services = attempting.keeping.services
    if isinstance(over, Failed):
        done = Done(failure=over.error)
        await asyncio.to_thread(_book_failure, over, services.ledger)
    else:
        done = _done(over.kept, await keep_thumbnail(over.kept, attempting.keeping))
        await asyncio.to_thread(_book_image, over, services.ledger)
    log_attempt(
        attempting.image,
        over.token,
        attempting.hold,
        over.latency_ms,
        failure=done.failure,
        cost=over.bill.cost if isinstance(over, Bought) else None,
    )
    return done


async def _call(attempting: Attempting, turn: int) -> PaidImage | Failed:
    services, pacer = attempting.keeping.services, attempting.pacer
    try:
        references = await asyncio.gather(
            *(
                asyncio.to_thread(services.store.read, reference.object_name)
                for reference in attempting.image.references
            )
        )
        token = await asyncio.to_thread(services.ledger.intent, attempting.hold, attempting.request)
        started = services.clock.monotonic()
        answer = await attempting.provider.generate(attempting.image, references, token)
    except ProviderError as error:
        pacer.leave(turn, error)
        latency_ms = round((services.clock.monotonic() - started) * 1000)
        return Failed(token=token, latency_ms=latency_ms, error=error)
    except BaseException:
        pacer.abandon()
        raise
    pacer.leave(turn, None, pause_s=answer.pause_s)
    return PaidImage(
        image=attempting.image,
        token=token,
        latency_ms=round((services.clock.monotonic() - started) * 1000),
        bill=answer.model_copy(update={"data": b""}),
        data=answer.data,
    )


def _book_failure(failed: Failed, ledger: Ledger) -> None:
    error, token, latency_ms = failed.error, failed.token, failed.latency_ms
    if error.billing is Billing.NOT_BILLED:
        ledger.void(token, code=error.code, detail=str(error), latency_ms=latency_ms)
    elif error.billing is Billing.BILLED and error.cost is not None:
        ledger.capture(
            token,
            cost=error.cost,
            cost_basis=error.cost_basis,
            image=None,
            code=error.code,
            detail=str(error),
            latency_ms=latency_ms,
            request_id=error.request_id,
        )
    else:
        ledger.assume(token, code=error.code, detail=str(error), latency_ms=latency_ms)


def _book_image(bought: Bought, ledger: Ledger) -> None:
    lost = bought.kept.failure
    ledger.capture(
        bought.token,
        cost=bought.bill.cost,
        cost_basis=bought.bill.cost_basis,
        image=bought.kept.image,
        code=lost.code if lost else "",
        detail=str(lost) if lost else "",
        latency_ms=bought.latency_ms,
        request_id=bought.bill.request_id,
    )


def _done(kept: Kept, thumbnail_trouble: StorageUnavailable | None) -> Done:
    if isinstance(kept.failure, ProviderError):
        return Done(failure=kept.failure)
    if kept.image is None:
        # Paid for and lost: its row fails now, and a retry of the batch makes it again.
        lost = ProviderError(str(kept.failure), kind=ErrorKind.BAD_OUTPUT)
        return Done(failure=lost, trouble=kept.failure)
    return Done(image=kept.image, trouble=thumbnail_trouble)
