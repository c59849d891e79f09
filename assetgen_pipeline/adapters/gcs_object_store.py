"""The bucket on Google Cloud Storage, and on the emulator that stands in for it.

Every call has a time-out and a bounded retry; every vendor error becomes one of ours,
in a sentence without URL, host or query. What the emulator does differently is in
`gcs_emulator`.
"""
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NoReturn

import google.auth
import requests
from google.api_core import exceptions as api_exceptions
from google.auth import exceptions as auth_exceptions
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage import Blob, Bucket, Client
from google.cloud.storage import exceptions as storage_exceptions
from google.cloud.storage.retry import DEFAULT_RETRY
from urllib3.exceptions import HTTPError

from assetgen_pipeline.adapters.gcs_emulator import (
    MULTIPART_LIMIT,
    EmulatorClient,
    emulator_client,
    fits_emulator,
    pooled,
    upload_at_once,
)
from assetgen_pipeline.domain.errors import (
    CredentialsMissing,
    ObjectChanged,
    ObjectExists,
    ObjectMissing,
    StorageUnavailable,
)
from assetgen_pipeline.ports.object_store import ObjectInfo, ObjectStore

__all__ = ["GcsObjectStore", "cloud_client", "emulator_client"]

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_TIMEOUT_S = (5.0, 60.0)
_PAGE_SIZE = 1000

_REASONS: dict[int, str] = {
    401: "the bucket does not accept our credentials",
    403: "the bucket refuses us; a permission is missing",
    404: "the bucket does not exist",
    408: "the bucket took too long to answer",
    429: "the bucket asks us to slow down",
}
_VENDOR_ERRORS = (
    api_exceptions.GoogleAPIError,
    auth_exceptions.GoogleAuthError,
    storage_exceptions.InvalidResponse,
    storage_exceptions.DataCorruption,
    requests.RequestException,
    HTTPError,
    OSError,
)


def cloud_client(*, project: str | None = None, connections: int = 32) -> Client:
    """Make a client from Application Default Credentials, for up to `connections` threads.

    Raises:
        StorageUnavailable: this machine has no such credentials.
    """
    try:
        credentials, default_project = google.auth.default(scopes=_SCOPES)
    except (auth_exceptions.GoogleAuthError, OSError):
        raise CredentialsMissing(
            "no Google Cloud credentials were found (Application Default Credentials)"
        ) from None
    session = pooled(AuthorizedSession(credentials), connections=connections)
    return Client(project=project or default_project, credentials=credentials, _http=session)


class GcsObjectStore(ObjectStore):
    """One bucket; safe to use from many threads."""

    def __init__(self, client: Client, *, bucket: str, retry_for_s: float = 30.0) -> None:
        """Use `client` (the caller closes it); `retry_for_s` bounds the retries of a call."""
        self.bucket = bucket
        # For traces, which nobody asked for, google-cloud-storage 3.17 otherwise reads the
        # bucket's own description in a thread: a permission that we lack, and retries that
        # outlive the client. https://github.com/googleapis/google-cloud-python/issues/17650
        client._bucket_metadata_cache = None  # type: ignore[assignment]  # noqa: SLF001
        self._client = client
        self._bucket: Bucket = client.bucket(bucket)
        self._emulator = client if isinstance(client, EmulatorClient) else None
        retry = DEFAULT_RETRY.with_delay(initial=0.2, maximum=5.0)
        self._options: dict[str, Any] = {
            "timeout": _TIMEOUT_S,
            "retry": retry.with_timeout(retry_for_s),
        }

    def ensure_bucket(self) -> None:
        """Create the bucket on the emulator where absent; does nothing in the cloud.

        Raises:
            StorageUnavailable: the emulator cannot be reached.
        """
        if self._emulator is None:
            return
        with _translated():
            try:
                self._client.create_bucket(self._bucket, **self._options)
            except api_exceptions.Conflict:
                return

    def read(self, name: str, *, generation: int | None = None) -> bytes:
        """The object's bytes as stored, never decompressed.

        Raises:
            ObjectMissing: no such object, or not at that generation.
            StorageUnavailable: the bucket cannot be reached or refuses us.
        """
        at = "" if generation is None else f" at generation {generation}"
        with _translated(name, missing=f"{name} is not in the bucket{at}"):
            blob = self._blob(name, generation=generation)
            data: bytes = blob.download_as_bytes(raw_download=True, **self._options)
            return data

    def stat(self, name: str) -> ObjectInfo | None:
        """The object's description, or `None`.

        Raises:
            StorageUnavailable: the bucket cannot be reached or refuses us.
        """
        try:
            with _translated(name, missing=name):
                blob = self._blob(name)
                blob.reload(**self._options)
                return self._info(blob)
        except ObjectMissing:
            return None

    def create(
        self, name: str, data: bytes, *, content_type: str, metadata: Mapping[str, str] = {}
    ) -> ObjectInfo:
        """Upload an object that must not exist yet.

        Also raised as `ObjectExists`: our own upload, where its answer was lost and the
        retry met it. So names are content addresses, or the caller reads what is there.

        Raises:
            ObjectExists: it does; nothing was changed.
            StorageUnavailable: the bucket cannot be reached or refuses us.
        """
        with _translated(name, precondition=ObjectExists(f"{name} is already in the bucket")):
            return self._upload(name, data, content_type, metadata, if_generation=0)

    def write(
        self,
        name: str,
        data: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str] = {},
        if_generation: int | None = None,
    ) -> ObjectInfo:
        """Upload a new generation of an object, created where absent.

        Raises:
            ObjectChanged: `if_generation` is given and is not the present one (0 is absent).
            StorageUnavailable: the bucket cannot be reached or refuses us.
        """
        changed = ObjectChanged(f"{name} is no longer at generation {if_generation}")
        with _translated(name, precondition=changed):
            return self._upload(name, data, content_type, metadata, if_generation=if_generation)

    def delete(self, name: str, *, generation: int | None = None) -> bool:
        """Delete an object; `False` where it (or that generation of it) is gone already.

        Raises:
            StorageUnavailable: the bucket cannot be reached or refuses us.
        """
        if self._emulator is not None and generation is not None:
            # The emulator ignores the precondition below. The gap between these two calls
            # is harmless to a claim, which rests on a create-only upload.
            present = self.stat(name)
            if present is None or present.generation != generation:
                return False
        try:
            with _translated(name, missing=name, precondition=ObjectChanged(name)):
                self._blob(name).delete(if_generation_match=generation, **self._options)
        except (ObjectMissing, ObjectChanged):
            return False
        return True

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects under a prefix in name order, page by page.

        Raises:
            StorageUnavailable: the bucket cannot be reached or refuses us.
        """
        with _translated():
            blobs = self._client.list_blobs(
                self._bucket, prefix=prefix, page_size=_PAGE_SIZE, **self._options
            )
            pages = iter(blobs.pages)
        while True:
            with _translated():
                page = next(pages, None)
            if page is None:
                return
            yield from [self._info(blob) for blob in page]

    def _blob(self, name: str, *, generation: int | None = None) -> Blob:
        if self._emulator is not None and not fits_emulator(name):
            message = f"{name!r:.200} cannot be in a local bucket"
            raise ObjectMissing(message)
        blob: Blob = self._bucket.blob(name, generation=generation)
        return blob

    def _upload(
        self,
        name: str,
        data: bytes,
        content_type: str,
        metadata: Mapping[str, str],
        *,
        if_generation: int | None,
    ) -> ObjectInfo:
        if self._emulator is not None and not fits_emulator(name):
            message = f"{name!r:.200} cannot be in a local bucket"
            raise StorageUnavailable(message)
        blob = self._bucket.blob(name)
        blob.metadata = dict(metadata)
        if self._emulator is not None and len(data) > MULTIPART_LIMIT:
            return upload_at_once(
                self._emulator,
                blob,
                data,
                content_type=content_type,
                if_generation=if_generation,
                timeout_s=_TIMEOUT_S,
            )
        blob.upload_from_string(
            data, content_type=content_type, if_generation_match=if_generation, **self._options
        )
        return self._info(blob)

    @staticmethod
    def _info(blob: Blob) -> ObjectInfo:
        return ObjectInfo(
            name=blob.name,
            generation=blob.generation,
            size=blob.size,
            content_type=blob.content_type or "application/octet-stream",
            updated_at=blob.updated,
            metadata=MappingProxyType(dict(blob.metadata or {})),
        )


@contextmanager
def _translated(
    name: str = "", *, missing: str | None = None, precondition: Exception | None = None
) -> Iterator[None]:
    try:
        yield
    except _VENDOR_ERRORS as error:
        _raise_ours(error, name, missing, precondition)


def _raise_ours(
    error: BaseException, name: str, missing: str | None, changed: Exception | None
) -> NoReturn:
    # The vendor's text holds the URL, so it is not chained either: tracebacks are printed.
    if isinstance(error, api_exceptions.RetryError) and error.cause is not None:
        error = error.cause
    if isinstance(error, api_exceptions.NotFound) and missing is not None:
        raise ObjectMissing(missing) from None
    if isinstance(error, api_exceptions.PreconditionFailed) and changed is not None:
        raise changed from None
    kind = type(error).__name__
    code = _status(error)
    if code:
        reason = _REASONS.get(code, f"the bucket answered with status {code}")
    elif isinstance(error, storage_exceptions.DataCorruption):
        reason = f"the bytes of {name} that arrived do not match their checksum"
    elif isinstance(error, auth_exceptions.GoogleAuthError):
        reason = "our credentials for the bucket cannot be used"
    else:
        reason = "the bucket cannot be reached"
    message = f"{reason} ({kind})"
    raise StorageUnavailable(message, status=code) from None


def _status(error: BaseException) -> int:
    if isinstance(error, api_exceptions.GoogleAPICallError):
        return int(error.code or 0)
    if isinstance(error, storage_exceptions.InvalidResponse):
        return int(error.response.status_code)
    return 0
