"""V4 signed URLs: by a private key, or by Google's IAM where there is none."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import google.auth
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import exceptions
from google.auth.transport.requests import Request
from google.cloud.storage import _signing
from google.oauth2 import service_account

from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.ports import SignedUrl, UrlSigner

CLOUD_ENDPOINT = "https://storage.googleapis.com"
MAX_TTL = timedelta(days=7)
# Google rotates the keys behind signBlob and promises no more than this:
# https://docs.cloud.google.com/storage/docs/authentication/creating-signatures
MAX_IAM_TTL = timedelta(hours=12)
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_IAM_THREADS = 8


class KeySigner(UrlSigner):
    """Signs with a private key that this process holds."""

    def __init__(
        self,
        *,
        kind: str,
        credentials: service_account.Credentials,
        bucket: str,
        api_access_endpoint: str | None = None,
    ) -> None:
        """`kind` is `key_file` or `local`; the endpoint is the bucket server's address."""
        self.kind = kind
        self._credentials = credentials
        self._bucket = bucket
        self._endpoint = api_access_endpoint or CLOUD_ENDPOINT

    def sign(self, names: Sequence[str], *, ttl: timedelta, now: datetime) -> list[SignedUrl]:
        """Sign a GET of each object."""
        life = min(ttl, MAX_TTL)
        return [self._sign(name, life, now) for name in names]

    def _sign(self, name: str, life: timedelta, now: datetime) -> SignedUrl:
        url = _signing.generate_signed_url_v4(
            self._credentials,
            resource=f"/{self._bucket}/{quote(name)}",
            expiration=life,
            api_access_endpoint=self._endpoint,
            _request_timestamp=now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ"),
        )
        return SignedUrl(url=url, expires_at=now.replace(microsecond=0) + life, signer=self.kind)


class IamSigner(UrlSigner):
    """Signs through IAM signBlob as a service account: no key file, 12 h at most."""

    kind = "iam"

    def __init__(self, *, credentials: Any, bucket: str) -> None:  # noqa: ANN401 - untyped library
        """`credentials` name a service account that may sign as itself."""
        self._credentials = credentials
        self._bucket = bucket

    def sign(self, names: Sequence[str], *, ttl: timedelta, now: datetime) -> list[SignedUrl]:
        """Sign a GET of each object, eight at once."""
        life = min(ttl, MAX_IAM_TTL)
        stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        expires_at = now.replace(microsecond=0) + life

        def one(name: str) -> SignedUrl:
            url = _signing.generate_signed_url_v4(
                self._credentials,
                resource=f"/{self._bucket}/{quote(name)}",
                expiration=life,
                service_account_email=self._credentials.service_account_email,
                access_token=self._credentials.token,
                _request_timestamp=stamp,
            )
            return SignedUrl(url=url, expires_at=expires_at, signer=self.kind)

        try:
            if not self._credentials.valid:
                self._credentials.refresh(Request())
            with ThreadPoolExecutor(_IAM_THREADS) as pool:
                return list(pool.map(one, names))
        except (exceptions.GoogleAuthError, AttributeError) as error:
            raise StorageUnavailable(
                "IAM does not sign URLs for us; the run's service account needs"
                " roles/iam.serviceAccountTokenCreator on itself"
            ) from error


def local_signing_key(home: Path) -> service_account.Credentials:
    """The throw-away key of a home, made at first use; for the local bucket only."""
    path = home / "signing-key.json"
    if not path.exists():
        _make_key(path)
    return service_account.Credentials.from_service_account_info(
        json.loads(path.read_text(encoding="utf-8"))
    )


def _make_key(path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    info = {
        "type": "service_account",
        "client_email": "local@assetgen.invalid",
        "token_uri": "https://assetgen.invalid/token",
        "private_key": pem.decode(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(info, file)
    try:
        # Of two processes that make one at once, the first to link it wins.
        os.link(partial, path)
    except FileExistsError:
        pass
    finally:
        partial.unlink()


def key_file_signer(path: str, *, bucket: str) -> KeySigner:
    """A signer with a service account's key file.

    Raises:
        StorageUnavailable: the file is missing or holds no private key.
    """
    try:
        credentials = service_account.Credentials.from_service_account_file(path)
    except (OSError, ValueError) as error:
        raise StorageUnavailable("GOOGLE_APPLICATION_CREDENTIALS holds no private key") from error
    return KeySigner(kind="key_file", credentials=credentials, bucket=bucket)


def iam_signer(*, bucket: str) -> IamSigner:
    """A signer with Application Default Credentials.

    Raises:
        StorageUnavailable: there are none.
    """
    try:
        credentials, _project = google.auth.default(scopes=[_SCOPE])
    except exceptions.GoogleAuthError as error:
        raise StorageUnavailable("no Google credentials found") from error
    return IamSigner(credentials=credentials, bucket=bucket)
