"""What the stages of a batch share: bucket, ledger, signer, codec, facts, clock."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Literal

from assetgen_pipeline.domain.delivery import SignedUrl, UrlPolicy
from assetgen_pipeline.ports.delivery import UrlSigner
from assetgen_pipeline.ports.ledger import Ledger
from assetgen_pipeline.ports.object_store import ObjectStore
from assetgen_pipeline.settings import Settings
from assetgen_pipeline.stages.services import Services
from assetgen_pipeline.wiring.bucket import emulator_endpoint, open_object_store
from assetgen_pipeline.wiring.clock import open_clock
from assetgen_pipeline.wiring.deployment import csv_limits
from assetgen_pipeline.wiring.ledger import open_ledger


@contextmanager
def open_services(settings: Settings, *, store: ObjectStore, ledger: Ledger) -> Iterator[Services]:
    """Put together what the stages of a batch work with."""
    from assetgen_pipeline.adapters.parquet_costs import ParquetCostFacts
    from assetgen_pipeline.adapters.pillow_images import PillowImageCodec

    endpoint = emulator_endpoint(settings)
    base = endpoint or "https://storage.cloud.google.com"
    codec = PillowImageCodec()
    try:
        yield Services(
            store=store,
            ledger=ledger,
            signer=_SignerAtNeed(settings),
            codec=codec,
            facts=ParquetCostFacts(store),
            clock=open_clock(),
            link=lambda name: f"{base}/{settings.bucket}/{name}",
            urls=UrlPolicy(
                ttl=settings.url_ttl,
                refresh_margin=settings.url_refresh_margin,
                refresh_retention=settings.url_refresh_retention,
            ),
            csv_limits=csv_limits(settings),
        )
    finally:
        codec.close()


@contextmanager
def open_all(settings: Settings) -> Iterator[Services]:
    """Bucket, ledger and services at once, for commands."""
    with (
        open_object_store(settings) as store,
        open_ledger(settings) as ledger,
        open_services(settings, store=store, ledger=ledger) as services,
    ):
        yield services


class _SignerAtNeed(UrlSigner):
    """The deployment's signer, opened where something is signed: a batch can be closed without."""

    kind = "at-need"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opening = threading.Lock()
        self._signer: UrlSigner | None = None

    def sign(self, names: Sequence[str], *, ttl: timedelta, now: datetime) -> list[SignedUrl]:
        """Sign as the signer of the settings does.

        Raises:
            StorageUnavailable: no credentials that can sign, or the signer's own reason.
        """
        with self._opening:
            self._signer = self._signer or open_signer(self._settings)
        return self._signer.sign(names, ttl=ttl, now=now)


def signer_kind(settings: Settings) -> Literal["local", "key_file", "iam"]:
    """Who signs: as the settings say, and where they leave it open, by what there is."""
    if settings.signer != "auto":
        return settings.signer
    if settings.storage_emulator_host or settings.uses_local_bucket:
        return "local"
    return "key_file" if settings.gcs_key_file else "iam"


def open_signer(settings: Settings) -> UrlSigner:
    """Who signs URLs: the local key beside an emulator, else a key file or IAM.

    Raises:
        StorageUnavailable: no credentials that can sign.
    """
    from assetgen_pipeline.adapters import gcs_url_signer

    endpoint = emulator_endpoint(settings)
    kind = signer_kind(settings)
    if kind == "local":
        credentials = gcs_url_signer.local_signing_key(settings.home)
        return gcs_url_signer.KeySigner(
            kind="local",
            credentials=credentials,
            bucket=settings.bucket,
            api_access_endpoint=endpoint or None,
        )
    if kind == "key_file":
        return gcs_url_signer.key_file_signer(settings.gcs_key_file, bucket=settings.bucket)
    return gcs_url_signer.iam_signer(bucket=settings.bucket)
