"""Resources: open and close what `wiring` builds, so that assets receive plain ports.

Nothing here talks to the network before a run or a tick needs it.
https://docs.dagster.io/guides/build/external-resources
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from pydantic import Field

from assetgen_pipeline.defs.gcs_resource import GCSResource
from assetgen_pipeline.defs.workers import stamp_worker
from assetgen_pipeline.ports.ledger import Ledger
from assetgen_pipeline.ports.object_store import ObjectStore
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.alerting import Alerting
from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.stages.services import Services
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.deployment import open_deployment
from assetgen_pipeline.wiring.ledger import open_ledger
from assetgen_pipeline.wiring.notifier import open_alerting
from assetgen_pipeline.wiring.services import open_services, open_signer


class ObjectStoreResource(dg.ConfigurableResource[ObjectStore]):
    """The bucket: Google Cloud Storage, an emulator, or the local bucket of `HOME`."""

    gcs: dg.ResourceDependency[GCSResource]
    bucket: str = Field(description="The bucket's name.")
    where: str = Field(description="Google Cloud Storage, an emulator, or LOCAL FAKE BUCKET.")

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[ObjectStore]:
        """Open the bucket for one run or tick, and sign the run with its worker."""
        stamp_worker(context)
        with open_object_store(load_settings(), cloud_client=self.gcs.get_client) as store:
            yield store


class LedgerResource(dg.ConfigurableResource[Ledger]):
    """The budget ledger, SQLite or PostgreSQL."""

    engine: str = Field(description="`sqlite` or `postgresql`; the URL may hold a password.")

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Ledger]:
        """Open the ledger for one run or tick."""
        del context
        with open_ledger(load_settings()) as ledger:
            yield ledger


class ServicesResource(dg.ConfigurableResource[Services]):
    """Bucket, ledger, signer, image codec, cost facts and clock, as the stages take them."""

    object_store: dg.ResourceDependency[ObjectStore]
    ledger: dg.ResourceDependency[Ledger]

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Services]:
        """Put the services of one run or tick together."""
        settings = load_settings()
        if context.run is not None:
            # A run that nobody can sign for ends here, before it claims or pays for anything;
            # a tick closes batches without a signer too.
            open_signer(settings)
        with open_services(settings, store=self.object_store, ledger=self.ledger) as services:
            yield services


class DeploymentResource(dg.ConfigurableResource[Deployment]):
    """The deployment's choices: provider, prices, limits."""

    provider: str = Field(description="Who makes the images.")

    def create_resource(self, context: dg.InitResourceContext) -> Deployment:
        """Read them from the settings of this process."""
        del context
        return open_deployment(load_settings())


class AlertingResource(dg.ConfigurableResource[Alerting]):
    """Who is told of alerts, and from when on something is worth one."""

    ways: str = Field(description="Where alerts go; addresses are secrets.")

    def create_resource(self, context: dg.InitResourceContext) -> Alerting:
        """Read them from the settings of this process."""
        del context
        return open_alerting(load_settings())
