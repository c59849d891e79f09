"""Resources: open and close what `wiring` builds, so that assets receive plain ports.

Nothing here talks to the network before a run or a tick needs it.
https://docs.dagster.io/guides/build/external-resources
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster_gcp.gcs import GCSResource
from pydantic import Field

from assetgen_pipeline import wiring
from assetgen_pipeline.defs.workers import stamp_worker
from assetgen_pipeline.ports import Ledger, ObjectStore
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.stages.services import Services


class ObjectStoreResource(dg.ConfigurableResource[ObjectStore]):
    """The bucket: Google Cloud Storage, an emulator, or the local bucket of `HOME`."""

    gcs: dg.ResourceDependency[GCSResource]
    bucket: str = Field(description="The bucket's name.")
    where: str = Field(description="Google Cloud Storage, an emulator, or LOCAL FAKE BUCKET.")

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[ObjectStore]:
        """Open the bucket for one run or tick, and sign the run with its worker."""
        stamp_worker(context)
        with wiring.open_object_store(load_settings(), cloud_client=self.gcs.get_client) as store:
            yield store


class LedgerResource(dg.ConfigurableResource[Ledger]):
    """The budget ledger, SQLite or PostgreSQL."""

    engine: str = Field(description="`sqlite` or `postgresql`; the URL may hold a password.")

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Ledger]:
        """Open the ledger for one run or tick."""
        del context
        with wiring.open_ledger(load_settings()) as ledger:
            yield ledger


class ServicesResource(dg.ConfigurableResource[Services]):
    """Bucket, ledger, signer, image codec, cost facts and clock, as the stages take them."""

    object_store: dg.ResourceDependency[ObjectStore]
    ledger: dg.ResourceDependency[Ledger]

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Services]:
        """Put the services of one run or tick together."""
        del context
        with wiring.open_services(
            load_settings(), store=self.object_store, ledger=self.ledger
        ) as services:
            yield services


class DeploymentResource(dg.ConfigurableResource[Deployment]):
    """The deployment's choices: provider, prices, limits."""

    provider: str = Field(description="Who makes the images.")

    def create_resource(self, context: dg.InitResourceContext) -> Deployment:
        """Read them from the settings of this process."""
        del context
        return wiring.deployment(load_settings())
