"""Generate the images of one shard: paid once, stored, and booked one by one.

Per image: serve it from what is stored, else commit an intent, call the provider once,
store image and thumbnail, book the cost. The uploaded image carries its attempt id, so a
process that dies between upload and booking leaves a receipt (`stages.close_batch`).
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from assetgen_pipeline.domain.bucket_layout import image_name, thumbnail_name
from assetgen_pipeline.domain.budget import (
    AttemptRecord,
    AttemptRequest,
    AttemptToken,
    Hold,
    StoredImage,
)
from assetgen_pipeline.domain.errors import BudgetRefused, ObjectExists, StorageUnavailable
from assetgen_pipeline.domain.generation import (
    ENDS_THE_IMAGE,
    STOPS_THE_BATCH,
    Billing,
    ErrorKind,
    PlannedImage,
    ProviderError,
    ProviderImage,
)
from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.pricing import Catalogue, ceiling
from assetgen_pipeline.ports import ImageProvider
from assetgen_pipeline.stages.bounded import map_bounded
from assetgen_pipeline.stages.image_receipts import (
    create_thumbnail,
    describe_stored,
    receipt_metadata,
)
from assetgen_pipeline.stages.services import Services

# How often one image may be tried again within a run, by what went wrong.
_RETRIES = {
    ErrorKind.TRANSIENT: 4,
    ErrorKind.RATE_LIMITED: 12,
    ErrorKind.OVERLOADED: 8,
    ErrorKind.UNKNOWN_OUTCOME: 1,
    ErrorKind.NO_OUTPUT: 1,
    ErrorKind.BAD_OUTPUT: 1,
}
_FIRST_BACKOFF_S = 1.0
_LONGEST_BACKOFF_S = 60.0


class ShardReport(Value):
    """What one shard did; the outcomes themselves stand in the ledger."""

    images: int
    generated: int
    reused: int
    already_delivered: int
    failed: int
    not_attempted: int
    stopped_by: str = ""
    """A problem code where the shard stopped early."""


@dataclass(slots=True, kw_only=True)
class ShardJob:
    """One shard's work, and what is known while it runs."""

    hold: Hold
    run_id: str
    lane: str
    catalogue: Catalogue
    provider: ImageProvider
    services: Services
    concurrency: int
    should_stop: Callable[[], str]
    """A problem code as soon as no further image may be started, else empty."""
    on_progress: Callable[[], None]
    """Called after every image."""
    stopped_by: str = ""
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        """Count one image under `what`."""
        self.counts[what] = self.counts.get(what, 0) + 1


async def generate_shard(images: Sequence[PlannedImage], *, job: ShardJob) -> ShardReport:
    """Bring every image of the shard to an end, `job.concurrency` at once.

    Images that a former run delivered, or that the provider's policy blocked, are left as
    they are. An image that fails is recorded and does not hold up the others.

    Raises:
        LedgerUnavailable, HoldNotOpen, StorageUnavailable: no further image is started.
    """
    ledger, owner = job.services.ledger, job.hold.owner
    records = await asyncio.to_thread(ledger.attempts, job.hold.batch_id)
    done = _ended_items(records)
    pending = [image for image in images if image.item_key not in done]
    ids = list({image.image_id for image in pending})
    stored = await asyncio.to_thread(ledger.stored_images, owner, ids)

    async def finish(same: Sequence[PlannedImage]) -> None:
        for image in same:
            await _finish_image(image, stored=stored, job=job)
            job.on_progress()

    await map_bounded(finish, _by_content(pending), limit=job.concurrency)
    return ShardReport(
        images=len(images),
        generated=job.counts.get("generated", 0),
        reused=job.counts.get("reused", 0),
        already_delivered=len(images) - len(pending),
        failed=job.counts.get("failed", 0),
        not_attempted=job.counts.get("not_attempted", 0),
        stopped_by=job.stopped_by,
    )


def _ended_items(records: Sequence[AttemptRecord]) -> set[str]:
    return {r.item_key for r in records if r.image is not None or r.code == "provider-blocked"}


def _by_content(images: Sequence[PlannedImage]) -> list[list[PlannedImage]]:
    """The images of each content address, one after another: what one gives serves the rest."""
    groups: dict[str, list[PlannedImage]] = {}
    for image in images:
        groups.setdefault(image.image_id, []).append(image)
    return list(groups.values())


async def _finish_image(
    image: PlannedImage, *, stored: dict[str, StoredImage], job: ShardJob
) -> None:
    known = stored.get(image.image_id)
    if known is not None and await asyncio.to_thread(_is_stored, known, job.services):
        request = _attempt_request(image, job)
        await asyncio.to_thread(job.services.ledger.reuse, job.hold, request, known)
        job.count("reused")
        return
    retries: dict[ErrorKind, int] = {}
    while True:
        job.stopped_by = job.stopped_by or job.should_stop()
        if job.stopped_by:
            job.count("failed" if retries else "not_attempted")
            return
        try:
            failure = await _attempt(image, stored=stored, job=job)
        except BudgetRefused as refusal:
            job.stopped_by = job.stopped_by or refusal.code
            continue
        if failure is None:
            job.count("generated")
            return
        retries[failure.kind] = retries.get(failure.kind, 0) + 1
        if _gives_up(failure, retries, job):
            job.count("failed")
            return
        await job.services.clock.sleep(_backoff_s(failure, retries[failure.kind]))


def _is_stored(image: StoredImage, services: Services) -> bool:
    return services.store.stat(image.object_name) is not None


def _gives_up(failure: ProviderError, retries: dict[ErrorKind, int], job: ShardJob) -> bool:
    if failure.kind in STOPS_THE_BATCH:
        job.stopped_by = job.stopped_by or failure.code
    if job.stopped_by or failure.kind in ENDS_THE_IMAGE:
        return True
    return retries[failure.kind] > _RETRIES[failure.kind]


def _backoff_s(failure: ProviderError, tries: int) -> float:
    if failure.retry_after_s is not None:
        return min(failure.retry_after_s, _LONGEST_BACKOFF_S)
    return min(_FIRST_BACKOFF_S * 2.0 ** (tries - 1), _LONGEST_BACKOFF_S)


def _attempt_request(image: PlannedImage, job: ShardJob) -> AttemptRequest:
    price = job.catalogue.price(image.provider, image.model)
    return AttemptRequest(
        item_key=image.item_key,
        image_id=image.image_id,
        row_number=image.row_number,
        scene_id=image.scene_id,
        variant=image.variant,
        provider=image.provider,
        model=image.model,
        lane=job.lane,
        run_id=job.run_id,
        ceiling=ceiling(price, prompt_chars=len(image.prompt), references=len(image.references)),
    )


async def _attempt(
    image: PlannedImage, *, stored: dict[str, StoredImage], job: ShardJob
) -> ProviderError | None:
    """Make one paid attempt and book it; the failure, if it failed.

    Raises:
        BudgetRefused: nothing was sent, because no cover is left for it.
    """
    services = job.services
    references = [
        await asyncio.to_thread(services.store.read, reference.object_name)
        for reference in image.references
    ]
    token = await asyncio.to_thread(services.ledger.intent, job.hold, _attempt_request(image, job))
    started = services.clock.monotonic()
    try:
        answer = await job.provider.generate(image, references, token)
    except ProviderError as error:
        latency_ms = round((services.clock.monotonic() - started) * 1000)
        await asyncio.to_thread(_book_failure, error, token, latency_ms, job)
        return error
    latency_ms = round((services.clock.monotonic() - started) * 1000)
    return await asyncio.to_thread(
        _store_and_book, image, answer, token, latency_ms, stored=stored, job=job
    )


def _book_failure(
    error: ProviderError, token: AttemptToken, latency_ms: int, job: ShardJob
) -> None:
    ledger = job.services.ledger
    if error.billing is Billing.NOT_BILLED:
        ledger.void(token, code=error.code, detail=str(error), latency_ms=latency_ms)
    elif error.billing is Billing.BILLED and error.cost is not None:
        ledger.capture(
            token,
            cost=error.cost,
            cost_basis="usage",
            image=None,
            code=error.code,
            detail=str(error),
            latency_ms=latency_ms,
        )
    else:
        ledger.assume(token, code=error.code, detail=str(error), latency_ms=latency_ms)


def _store_and_book(
    image: PlannedImage,
    answer: ProviderImage,
    token: AttemptToken,
    latency_ms: int,
    *,
    stored: dict[str, StoredImage],
    job: ShardJob,
) -> ProviderError | None:
    services = job.services
    failure: ProviderError | None = None
    kept: StoredImage | None = None
    try:
        kept = store_image(
            image, answer, token, latency_ms, owner=job.hold.owner, services=services
        )
    except ProviderError as error:
        failure = error
    except StorageUnavailable as error:
        # The image is paid for and lost: booked as such, and the shard ends.
        job.stopped_by = job.stopped_by or error.code
        failure = ProviderError("the image could not be stored", kind=ErrorKind.BAD_OUTPUT)
        failure.code = error.code
    services.ledger.capture(
        token,
        cost=answer.cost,
        cost_basis=answer.cost_basis,
        image=kept,
        code=failure.code if failure else "",
        detail=str(failure) if failure else "",
        latency_ms=latency_ms,
        request_id=answer.request_id,
    )
    if kept is not None:
        stored[image.image_id] = kept
    return failure


def store_image(
    image: PlannedImage,
    answer: ProviderImage,
    token: AttemptToken,
    latency_ms: int,
    *,
    owner: str,
    services: Services,
) -> StoredImage:
    """Upload the provider's bytes unchanged and a thumbnail, create-only.

    Raises:
        ProviderError: of kind `bad_output`; the bytes are not an image that we deliver.
        StorageUnavailable: the bucket cannot be reached.
    """
    facts = services.codec.inspect(answer.data)
    kept = StoredImage.of(
        answer.data,
        object_name=image_name(owner, image.image_id, facts.mime_type),
        thumbnail_name=thumbnail_name(owner, image.image_id),
        mime_type=facts.mime_type,
        size=(facts.width, facts.height),
    )
    metadata = receipt_metadata(token, answer, latency_ms)
    try:
        services.store.create(
            kept.object_name, answer.data, content_type=facts.mime_type, metadata=metadata
        )
    except ObjectExists:
        # A former attempt at the same request stored it: both are valid answers, the first stays.
        return describe_stored(kept.object_name, owner=owner, services=services)
    create_thumbnail(kept.thumbnail_name, facts.thumbnail, store=services.store)
    return kept
