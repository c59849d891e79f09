"""A whole deployment made of fakes: the real asset graph on a bucket and books in memory."""

from dataclasses import replace
from pathlib import Path

import dagster as dg

from assetgen_pipeline.adapters.catalogue import load_catalogue
from assetgen_pipeline.adapters.parquet_costs import ParquetCostFacts
from assetgen_pipeline.defs.assets import owner_tags
from assetgen_pipeline.defs.build import build_definitions
from assetgen_pipeline.defs.io_managers import ArtifactIOManager
from assetgen_pipeline.defs.partitions import batches
from assetgen_pipeline.domain.bucket_layout import BatchFolder, parse_drop
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.settings import Settings
from assetgen_pipeline.stages.alerting import Alerting
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.stages.parse_batch import claim_metadata
from assetgen_pipeline.stages.services import Services
from assetgen_pipeline.stages.waiting_batches import read_waiting
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.ledger import InMemoryLedger
from assetgen_pipeline.testing.notifier import RecordingNotifier
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline.testing.references import FakeImageCodec, ScriptedReferenceFetcher
from assetgen_pipeline.testing.signer import FakeSigner
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, NOW, a_csv

PARTITION_TAG = "dagster/partition"
# Three images.
TWO_ROWS = a_csv(
    ["S1", "a kitchen", 2], ["S2", "a harbour", 1], header=["scene_id", "prompt", "variants"]
)


class FakeDeployment:
    """Bucket, books, provider and an ephemeral Dagster instance, ready for a batch."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        *,
        provider=None,
        references=None,
        limit_micros=10_000_000,
        store=None,
        **choices,
    ):
        self.instance = instance
        self.clock = ManualClock(NOW)
        self.store = store or InMemoryObjectStore(BUCKET, clock=self.clock)
        self.ledger = InMemoryLedger(clock=self.clock, default_limit=Money(limit_micros))
        self.provider = provider or ScriptedProvider()
        self.fetcher = ScriptedReferenceFetcher(references or {})
        self.notifier = RecordingNotifier()
        self.services = Services(
            store=self.store,
            ledger=self.ledger,
            signer=FakeSigner(bucket=BUCKET),
            codec=FakeImageCodec(),
            facts=ParquetCostFacts(self.store),
            clock=self.clock,
            link=lambda name: f"https://storage.test/{BUCKET}/{name}",
        )
        catalogue = load_catalogue()
        self.deployment = Deployment(
            provider="local",
            **{
                "catalogue": catalogue,
                "model": catalogue.default_model("local"),
                "open_provider": lambda _provider, _model: self.provider,
                "open_fetcher": lambda: self.fetcher,
                **choices,
            },
        )

    def choose(self, **choices):
        """Change choices of the deployment for the runs that follow."""
        self.deployment = replace(self.deployment, **choices)

    @property
    def resources(self):
        return {
            "services": self.services,
            "deployment": self.deployment,
            "alerting": Alerting(notifier=self.notifier),
            "io_manager": ArtifactIOManager(object_store=self.store),
        }

    def upload(self, csv: bytes, *, batch_id=BATCH_ID, dry_run=False, run_id="") -> None:
        """Put a claimed file where `assetgen run` puts it."""
        self.store.create(
            BatchFolder(batch_id).request,
            csv,
            content_type="text/csv",
            metadata=claim_metadata(run_id=run_id, dry_run=dry_run, clock=self.clock),
        )

    def drop(self, name: str, csv: bytes = b"scene_id,prompt\nS1,a kitchen\n"):
        """Drop a file in the inbox."""
        return self.store.write(name, csv, content_type="text/csv")

    def batch_of(self, drop) -> str:
        """The batch that a dropped file is."""
        return parse_drop(drop.name).batch_id(bucket=BUCKET, generation=drop.generation)

    @property
    def definitions(self):
        return build_definitions(Settings(home=Path("/unused")), resources=self.resources)

    def publish_costs(self, day):
        """Execute `publish_costs` for one budget day in this process."""
        return self.definitions.resolve_job_def("publish_costs").execute_in_process(
            partition_key=day, instance=self.instance, raise_on_error=False
        )

    def run(self, *, batch_id=BATCH_ID, tags=None, job="generate_batch"):
        """Execute the batch's graph in this process."""
        self.instance.add_dynamic_partitions(batches.name, [batch_id])
        return self.definitions.resolve_job_def(job).execute_in_process(
            partition_key=batch_id,
            instance=self.instance,
            tags={**owner_tags(batch_id), **(tags or {})},
            raise_on_error=False,
        )

    def status(self, batch_id=BATCH_ID):
        return read_status(batch_id, store=self.store)

    def has(self, name: str) -> bool:
        return self.store.stat(name) is not None

    def spent_micros(self, owner="studio"):
        day = self.ledger.day(owner)
        return day.held.micros, day.settled.micros

    def asked(self):
        """The items that the provider was asked for, in order."""
        return [request.image.item_key for request in self.provider.requests]


def add_run(instance, *, status, batch_id=BATCH_ID, **tags):
    """A run that some other process left in the instance."""
    run = dg.DagsterRun(
        job_name="generate_batch",
        status=status,
        tags={PARTITION_TAG: batch_id, **{name.replace("__", "/"): v for name, v in tags.items()}},
    )
    instance.add_run(run)
    return run


def hold(deployment, run_id="r", *, worker="", batch_id=BATCH_ID):
    """Money that some run holds for a batch."""
    return deployment.ledger.reserve(
        owner="studio",
        batch_id=batch_id,
        run_id=run_id,
        amount=Money(500),
        price_version="p",
        worker=worker,
    )


def waits(deployment, batch_id=BATCH_ID):
    """What the batch waits for, if for anything."""
    found = read_waiting(batch_id, store=deployment.store)
    return found.cause if found is not None else None


def materialized(result):
    return {
        event.asset_key.to_user_string()
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION
    }


def failures(result):
    """What a person reads of the steps that failed."""
    return {
        event.step_key: event.step_failure_data.user_failure_data.description
        if event.step_failure_data.user_failure_data
        else event.step_failure_data.error.to_string()
        for event in result.all_events
        if event.is_step_failure
    }
