"""A whole deployment in memory, for tests of stages."""

from decimal import Decimal
from zoneinfo import ZoneInfo

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.generation import ErrorKind, PlannedImage, plan_images
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.pricing import Catalogue, ModelPrice
from assetgen_pipeline.stages.batch_files import outcome_now
from assetgen_pipeline.stages.generate_images import generate_shard
from assetgen_pipeline.stages.pacer import Pacer
from assetgen_pipeline.stages.reserve_budget import reserve_budget
from assetgen_pipeline.stages.services import Services
from assetgen_pipeline.stages.shard_job import ShardJob
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.costs import InMemoryCostFacts
from assetgen_pipeline.testing.ledger import InMemoryLedger
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline.testing.references import FakeImageCodec
from assetgen_pipeline.testing.signer import FakeSigner
from assetgen_pipeline_tests.builders import (
    BATCH_ID,
    BUCKET,
    NOW,
    RUN_ID,
    a_batch,
    a_csv,
    a_decision,
    an_image_request,
    row_references,
)

PROVIDER, MODEL = "local", "renderer"
ONE_IMAGE = Money(2_000)
CATALOGUE = Catalogue(
    as_of="2026-01",
    source="made up",
    default_models={PROVIDER: MODEL},
    models=(
        ModelPrice(provider=PROVIDER, model=MODEL, image_usd=Decimal("0.002")),
        ModelPrice(
            provider=PROVIDER,
            model="by-parts",
            image_usd=Decimal("0.010"),
            reference_usd=Decimal("0.001"),
            prompt_usd_per_1k_chars=Decimal("0.1"),
            max_references=4,
        ),
    ),
)
# What concerns the account, and the code that it stops a shard with.
STOPS = {
    ErrorKind.AUTH: "provider-auth",
    ErrorKind.QUOTA_EXHAUSTED: "provider-quota",
    ErrorKind.FATAL_CONFIG: "provider-config",
}


class Bench:
    """Fakes of every port, and the steps of a batch in short."""

    def __init__(
        self, *, limit="10", store=None, ledger=None, facts=None, time_zone="UTC", **services
    ):
        self.clock = ManualClock(NOW)
        self.store = store or InMemoryObjectStore(BUCKET, clock=self.clock)
        self.ledger = ledger or InMemoryLedger(
            clock=self.clock,
            default_limit=Money.from_usd(limit),
            time_zone=ZoneInfo(time_zone),
        )
        self.signer = FakeSigner(bucket=BUCKET)
        self.facts = facts or InMemoryCostFacts()
        self.services = Services(
            **{
                "store": self.store,
                "ledger": self.ledger,
                "signer": self.signer,
                "codec": FakeImageCodec(),
                "facts": self.facts,
                "clock": self.clock,
                "link": "https://browse.test/{}".format,
                **services,
            }
        )

    def open(self, *requests, **changes):
        """A batch that was parsed: its file and its artifact stand in the bucket."""
        batch = a_batch(*requests, **changes)
        folder = BatchFolder(batch.batch_id)
        rows = [request.cells for request in batch.requests]
        data = a_csv(*rows, header=batch.header)
        self.store.write(folder.request, data, content_type="text/csv")
        self.keep(batch, "batch_requests", batch)
        return batch

    def keep(self, batch, asset, value):
        name = BatchFolder(batch.batch_id).artifact(asset)
        data = value.model_dump_json().encode()
        self.store.write(name, data, content_type="application/json")

    def decide(self, batch, *rows):
        decision = a_decision(*(rows or (row_references(r.scene_id) for r in batch.requests)))
        self.keep(batch, "reference_images", decision)
        return decision

    def reserve(self, batch, *, run_id=RUN_ID, model=MODEL):
        return reserve_budget(
            batch,
            run_id=run_id,
            catalogue=CATALOGUE,
            provider=PROVIDER,
            model=model,
            lane="stable",
            ledger=self.ledger,
        )

    async def generate(self, batch, provider=None, *, decision=None, **job) -> object:
        """Reserve and generate the whole batch as one shard."""
        images = plan_images(batch, decision or self.decide(batch), provider=PROVIDER, model=MODEL)
        hold = job.pop("hold", None) or self.reserve(batch).hold
        return await self.shard(images, provider or ScriptedProvider(), hold=hold, **job)

    async def retry(self, batch):
        """Run the batch again: what the second run reports, and the items it asked for."""
        self.ledger.settle(batch.batch_id)
        provider = ScriptedProvider()
        report = await self.generate(batch, provider, run_id="run-2")
        return report, [request.image.item_key for request in provider.requests]

    def plan(self, batch):
        return plan_images(batch, self.decide(batch), provider=PROVIDER, model=MODEL)

    async def shard_of(self, batch, provider=None, *, count) -> object:
        """Reserve the batch and generate its first images only."""
        images = plan_images(batch, self.decide(batch), provider=PROVIDER, model=MODEL)
        hold = self.reserve(batch).hold
        return await self.shard(images[:count], provider or ScriptedProvider(), hold=hold)

    async def shard(self, images: tuple[PlannedImage, ...], provider, *, hold, **job) -> object:
        return await generate_shard(
            images,
            job=ShardJob(
                **{
                    "hold": hold,
                    "run_id": RUN_ID,
                    "lane": "stable",
                    "catalogue": CATALOGUE,
                    "provider": provider,
                    "pacer": Pacer(ceiling=job.get("concurrency", 4), clock=self.clock),
                    "jitter": lambda: 1.0,
                    "services": self.services,
                    "concurrency": 4,
                    "should_stop": str,
                    "on_progress": lambda: None,
                    **job,
                }
            ),
        )

    def outcome(self, batch_id=BATCH_ID):
        return outcome_now(batch_id, store=self.store, ledger=self.ledger)

    def names(self, prefix=""):
        return [found.name for found in self.store.list(prefix)]

    def attempts(self, batch_id=BATCH_ID):
        return self.ledger.attempts(batch_id)

    def broken(self):
        return [found for check in self.ledger.verify() for found in check.violations]


def some_requests(count, **changes):
    """Rows S1 to S<count>, each with a prompt of its own."""
    return tuple(
        an_image_request(f"S{n}", row_number=n, **{"prompt": f"scene {n}", **changes})
        for n in range(1, count + 1)
    )


def always(outcome):
    return ScriptedProvider(default=[outcome])


def stopped_by(report):
    return report.stopped.code if report.stopped else ""


def statuses(bench):
    return [image.status for image in bench.outcome().images]
