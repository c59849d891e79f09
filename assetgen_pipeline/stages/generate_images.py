"""Generate the images of one shard: paid once, stored, and booked one by one.

Per image: serve it from what is stored, else wait for a place in memory and a turn, commit
an intent, call the provider once, store the image; then, with the place free for the next,
store its thumbnail and book the cost. What follows from a failure says
`domain.generation.FAILURE_RULES`. Attempts of unknown outcome have their second try when
everything else of the shard is done.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from assetgen_pipeline.domain.budget import AttemptRequest, OwnedImage
from assetgen_pipeline.domain.errors import AssetgenError, BudgetRefused, ContentTaken
from assetgen_pipeline.domain.generation import Billing, ErrorKind, PlannedImage, ProviderError
from assetgen_pipeline.domain.orders import Reason
from assetgen_pipeline.domain.pricing import ceiling
from assetgen_pipeline.domain.problems import PROBLEM_CODES
from assetgen_pipeline.domain.tally import Earlier, earlier_of
from assetgen_pipeline.stages.bounded import map_bounded
from assetgen_pipeline.stages.image_receipts import find_stored
from assetgen_pipeline.stages.keep_image import Keeping
from assetgen_pipeline.stages.one_attempt import Attempting, Done, book_attempt, buy_image
from assetgen_pipeline.stages.shard_job import ShardJob
from assetgen_pipeline.stages.shard_report import ShardReport

_FIRST_BACKOFF_S = 1.0
_LONGEST_BACKOFF_S = 60.0
_TROUBLE_LOOK_S = 1.0
# Another batch of the owner that makes the same image is waited for, unless it has died.
_TWIN_LOOK_S = 1.0
_TWIN_PATIENCE_S = 600.0

Ending = Literal["generated", "reused", "failed", "not_attempted"]


@dataclass(slots=True)
class _Try:
    """An image on its way, and how its attempts in this run failed."""

    image: PlannedImage
    failures: dict[ErrorKind, int] = field(default_factory=dict)
    paid: bool = False
    """Whether an attempt of this run may have been billed: the next one needs its own cover."""
    once: bool = True
    """Whether to leave it to another batch that has it, or is having it made."""
    gone: OwnedImage | None = None
    """What the owner had of it when it was missed in the bucket."""
    waited_s: float = 0.0
    """How long another batch was waited for."""

    def note(self, failure: ProviderError) -> int:
        self.paid = self.paid or failure.billing is not Billing.NOT_BILLED
        self.failures[failure.kind] = self.failures.get(failure.kind, 0) + 1
        return self.failures[failure.kind]


async def generate_shard(images: Sequence[PlannedImage], *, job: ShardJob) -> ShardReport:
    """Bring every image of the shard to an end.

    Images in flight and images in memory are `job.concurrency` at most, together. Images that
    a former run delivered, or that the provider's policy blocked, are left as they are. An
    image that fails is recorded and does not hold up the others. Whatever ends the shard
    early, calls in flight are finished and booked first.

    Raises:
        LedgerUnavailable, HoldNotOpen, StorageUnavailable: no further image was started.
    """
    shard = _Shard(job)
    pending = await shard.open(images)
    # As many again as may be in memory: those whose image is stored, and only to be booked.
    workers = 2 * job.concurrency
    await map_bounded(shard.finish_each, _by_content(pending), limit=workers)
    await map_bounded(shard.finish_late, shard.parked, limit=workers)
    if job.crash is not None:
        raise job.crash
    return ShardReport(
        images=len(images),
        generated=job.counts.get("generated", 0),
        reused=job.counts.get("reused", 0),
        already_delivered=len(images) - len(pending),
        failed=job.counts.get("failed", 0),
        not_attempted=job.counts.get("not_attempted", 0),
        stopped=job.stopped,
        refused=job.refused,
    )


def _by_content(images: Sequence[PlannedImage]) -> list[list[PlannedImage]]:
    """The images of each content address, one after another: what one gives serves the rest."""
    groups: dict[str, list[PlannedImage]] = {}
    for image in images:
        groups.setdefault(image.image_id, []).append(image)
    return list(groups.values())


class _Shard:
    """One shard on its way."""

    def __init__(self, job: ShardJob) -> None:
        self.job = job
        self.parked: list[_Try] = []
        self._owned: dict[str, OwnedImage] = {}
        self._places = asyncio.Semaphore(job.concurrency)
        """One for each image that is in memory, or may come into it at any moment."""
        self._keeping = Keeping(
            owner=job.hold.owner,
            services=job.services,
            decoding=asyncio.Semaphore(job.services.codec.decoders),
            on_trouble=job.note_trouble,
        )

    async def open(self, images: Sequence[PlannedImage]) -> list[PlannedImage]:
        """Read what is known already; the images that are not at an end."""
        services, hold = self.job.services, self.job.hold
        earlier = await asyncio.to_thread(self.job.earlier or self._earlier)
        pending = [image for image in images if image.item_key not in earlier.ended]
        ids = list({image.image_id for image in pending})
        self._owned = await asyncio.to_thread(services.ledger.stored_images, hold.owner, ids)
        for image in pending:
            if image.item_key in earlier.unstored and image.image_id not in self._owned:
                find = partial(find_stored, owner=hold.owner, services=services)
                found = await asyncio.to_thread(find, image.image_id)
                if found is not None:
                    self._owned[image.image_id] = OwnedImage(image=found, served=0)
        return pending

    def _earlier(self) -> Earlier:
        return earlier_of(self.job.services.ledger.attempts(self.job.hold.batch_id))

    async def finish_each(self, same: Sequence[PlannedImage]) -> None:
        """Bring images of one content address to an end, or park them."""
        for image in same:
            await self._guarded(_Try(image))

    async def finish_late(self, parked: _Try) -> None:
        """Bring an image of unknown outcome to its end."""
        await self._guarded(parked, late=True)

    async def _guarded(self, trying: _Try, *, late: bool = False) -> None:
        """Let an error end the shard without tearing down the paid calls of the others.

        The first error is kept for `generate_shard` to raise.
        """
        job = self.job
        try:
            ending = await self._finish(trying, late=late)
            if ending is not None:
                job.counts[ending] = job.counts.get(ending, 0) + 1
                job.on_end(trying.image.item_key)
                await job.report_progress()
        except Exception as error:  # noqa: BLE001 - kept, and raised once the others are booked
            job.crash = job.crash or error
            code = error.code if isinstance(error, AssetgenError) else AssetgenError.code
            job.stop(code, PROBLEM_CODES[code].detail)

    async def _finish(self, trying: _Try, *, late: bool) -> Ending | None:
        """How an image ended; `None` where it is parked."""
        job = self.job
        while True:
            if await self._served(trying):
                return "reused"
            spare = late and job.alone
            try:
                done = await self._attempt(trying, further=trying.paid and not spare)
            except ContentTaken:
                await self._wait_for_twin(trying)
                continue
            except BudgetRefused as refusal:
                job.refused[trying.image.item_key] = Reason(code=refusal.code, detail=str(refusal))
                return "failed" if trying.failures else "not_attempted"
            if done is None:
                return "failed" if trying.failures else "not_attempted"
            failure = done.failure
            if failure is None:
                return "generated"
            tries = trying.note(failure)
            gives_up = self._gives_up(failure, tries)
            job.heed_breaker()
            if gives_up or job.stopped is not None:
                return "failed"
            if failure.rule.at_the_end and not late:
                self.parked.append(trying)
                return None
            await self._back_off(failure, tries)

    async def _wait_for_twin(self, trying: _Try) -> None:
        """Look again whether the owner has the image by now, and wait where it is being made."""
        job, image_id = self.job, trying.image.image_id
        found = await asyncio.to_thread(
            job.services.ledger.stored_images, job.hold.owner, [image_id]
        )
        self._owned.update(found)
        if found.get(image_id) in (None, trying.gone):
            trying.once = trying.waited_s < _TWIN_PATIENCE_S
            trying.waited_s += _TWIN_LOOK_S
            await job.services.clock.sleep(_TWIN_LOOK_S)

    async def _served(self, trying: _Try) -> bool:
        """Serve an image from what the owner already paid for."""
        image = trying.image
        known = self._owned.get(image.image_id)
        if known is None or known == trying.gone:
            return False
        services = self.job.services
        if await asyncio.to_thread(services.store.stat, known.image.object_name) is None:
            trying.gone = known  # Paid for once, and purged since.
            return False
        request = self._request(image)
        await asyncio.to_thread(services.ledger.reuse, self.job.hold, request, known.image)
        return True

    async def _turn(self) -> int | None:
        """Wait until a call may be made; `None` once the shard stops."""
        job = self.job
        while job.storage_troubles and not await job.is_stopped():
            # Paid images wait in memory for the bucket: nothing more is bought meanwhile.
            await job.services.clock.sleep(_TROUBLE_LOOK_S)
        return await job.pacer.enter(job.is_stopped)

    async def _attempt(self, trying: _Try, *, further: bool) -> Done | None:
        """Make one attempt and book it; `None` once the shard stops."""
        job, image = self.job, trying.image
        attempting = Attempting(
            image=image,
            request=replace(
                self._request(image),
                further=further,
                once=trying.once,
                gone=trying.gone.served if trying.gone is not None else 0,
            ),
            hold=job.hold,
            provider=job.provider,
            pacer=job.pacer,
            keeping=self._keeping,
        )
        async with self._places:
            turn = await self._turn()
            if turn is None:
                return None
            over = await buy_image(attempting, turn)
        done = await book_attempt(attempting, over)
        if done.image is not None:
            self._owned[image.image_id] = OwnedImage(image=done.image, served=1)
        if done.trouble is not None:
            job.stop(done.trouble.code, str(done.trouble))
        return done

    def _gives_up(self, failure: ProviderError, tries: int) -> bool:
        limit = failure.rule.retries
        if limit is None or tries <= limit:
            return False
        self.job.pacer.breaker.gave_up(failure)
        return True

    async def _back_off(self, failure: ProviderError, tries: int) -> None:
        """Wait before trying again; where the pace slows everybody down, that is enough."""
        if failure.kind is ErrorKind.RATE_LIMITED or failure.retry_after_s is not None:
            return
        longest = min(_FIRST_BACKOFF_S * 2.0 ** (tries - 1), _LONGEST_BACKOFF_S)
        await self.job.services.clock.sleep(longest * self.job.jitter())

    def _request(self, image: PlannedImage) -> AttemptRequest:
        job = self.job
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
            ceiling=ceiling(price, prompt=image.prompt, references=len(image.references)),
        )
