"""The bucket: Google Cloud Storage, an emulator, or the local bucket of `HOME`."""

import atexit
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from assetgen_pipeline.ports.object_store import ObjectStore
from assetgen_pipeline.settings import Settings


def local_bucket(home: Path) -> str:
    """The endpoint of the shared local bucket, held until this process ends.

    A server that was killed is started again, on the port that it had.
    """
    from assetgen_pipeline.adapters.local_bucket import hold_local_bucket

    _hold_until_exit(home)
    with hold_local_bucket(home) as endpoint:
        return endpoint


@cache
def _hold_until_exit(home: Path) -> None:
    from assetgen_pipeline.adapters.local_bucket import hold_local_bucket

    stack = ExitStack()
    stack.enter_context(hold_local_bucket(home))
    atexit.register(stack.close)


def revive_bucket(settings: Settings) -> None:
    """Start the local bucket again where it was killed; others come back by themselves."""
    if settings.uses_local_bucket:
        local_bucket(settings.home)


def emulator_endpoint(settings: Settings) -> str:
    """The emulator's address, the local bucket's where that is used, `""` in the cloud."""
    if settings.storage_emulator_host:
        host = settings.storage_emulator_host
        return host if "://" in host else f"http://{host}"
    return local_bucket(settings.home) if settings.uses_local_bucket else ""


def own_endpoint(settings: Settings) -> str:
    """As `emulator_endpoint`, but starts nothing: `""` also where no local bucket ever ran."""
    from assetgen_pipeline.adapters.local_bucket import kept_endpoint

    if settings.storage_emulator_host:
        return emulator_endpoint(settings)
    return kept_endpoint(settings.home) if settings.uses_local_bucket else ""


def bucket_kind(settings: Settings) -> str:
    """How people should read the bucket's name."""
    if settings.storage_emulator_host:
        return "an emulator (STORAGE_EMULATOR_HOST)"
    return "LOCAL FAKE BUCKET" if settings.uses_local_bucket else "Google Cloud Storage"


@contextmanager
def open_object_store(
    settings: Settings,
    *,
    cloud_client: Callable[[], Any] | None = None,
    retry_for_s: float = 30.0,
) -> Iterator[ObjectStore]:
    """Open the bucket; `cloud_client` makes the client where no emulator stands in.

    `retry_for_s` bounds the retries of one call.

    Raises:
        StorageUnavailable: it cannot be reached.
    """
    from assetgen_pipeline.adapters import gcs_object_store

    endpoint = emulator_endpoint(settings)
    if endpoint:
        client: Any = gcs_object_store.emulator_client(endpoint)
    else:
        client = cloud_client() if cloud_client else gcs_object_store.cloud_client()
    try:
        store = gcs_object_store.GcsObjectStore(
            client, bucket=settings.bucket, retry_for_s=retry_for_s
        )
        if endpoint:
            store.ensure_bucket()
        yield store
    finally:
        client.close()
