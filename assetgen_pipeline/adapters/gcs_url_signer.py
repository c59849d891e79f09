"""V4 signed URLs: by a private key, or by Google's IAM where there is none.

The request that is signed is put together here, because the vendor's public function
signs at the machine's time only; tests hold the two against each other.
https://docs.cloud.google.com/storage/docs/authentication/canonical-requests
"""
# mypy: disable-error-code="no-untyped-call"

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import google.auth
import requests
import stamina
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import exceptions, iam
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from assetgen_pipeline.domain.delivery import SignedUrl
from assetgen_pipeline.domain.errors import CredentialsMissing, StorageUnavailable
from assetgen_pipeline.ports.delivery import UrlSigner

CLOUD_ENDPOINT = "https://storage.googleapis.com"
MAX_TTL = timedelta(days=7)
# Google rotates the keys behind signBlob and promises no more than this:
# https://docs.cloud.google.com/storage/docs/authentication/signatures
MAX_IAM_TTL = timedelta(hours=12)
_MIN_TTL = timedelta(seconds=1)
_ALGORITHM = "GOOG4-RSA-SHA256"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_IAM_THREADS = 8
_IAM_TIMEOUT_S = 10.0

Sign = Callable[[bytes], bytes]


class _SlowDownError(Exception):
    """IAM answered 429, which google-auth does not try again."""


@dataclass(frozen=True, slots=True)
class _Issue:
    """What all URLs of one call have in common, put together once: RSA is slow enough."""

    kind: str
    base: str
    bucket: str
    query: str
    host: str
    to_sign: str
    expires_at: datetime

    @classmethod
    def of(
        cls, kind: str, *, email: str, endpoint: str, bucket: str, at: datetime, life: timedelta
    ) -> "_Issue":
        stamp = at.strftime("%Y%m%dT%H%M%SZ")
        scope = f"{stamp[:8]}/auto/storage/goog4_request"
        fields = {
            "X-Goog-Algorithm": _ALGORITHM,
            "X-Goog-Credential": f"{email}/{scope}",
            "X-Goog-Date": stamp,
            "X-Goog-Expires": str(int(life.total_seconds())),
            "X-Goog-SignedHeaders": "host",
        }
        return cls(
            kind,
            endpoint,
            bucket,
            "&".join(f"{key}={quote(value, safe='~')}" for key, value in fields.items()),
            urlsplit(endpoint).netloc,
            f"{_ALGORITHM}\n{stamp}\n{scope}\n",
            at + life,
        )

    def url(self, name: str, sign: Sign) -> SignedUrl:
        path = f"/{self.bucket}/{quote(name, safe='/~')}"
        request = f"GET\n{path}\n{self.query}\nhost:{self.host}\n\nhost\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(request.encode("ascii")).hexdigest()
        signature = sign((self.to_sign + digest).encode("ascii")).hex()
        return SignedUrl(
            url=f"{self.base}{path}?{self.query}&X-Goog-Signature={signature}",
            expires_at=self.expires_at,
            signer=self.kind,
        )


_IAM_FIX = (
    "Grant the service account roles/iam.serviceAccountTokenCreator on itself"
    " (iam.serviceAccounts.signBlob), and enable the API iamcredentials.googleapis.com."
)
_KEY_FIX = (
    "Set GOOGLE_APPLICATION_CREDENTIALS to a service account's JSON key file that can be read here."
)


class KeySigner(UrlSigner):
    """Signs with a private key that this process holds."""

    def __init__(
        self,
        *,
        kind: Literal["key_file", "local"],
        credentials: service_account.Credentials,
        bucket: str,
        api_access_endpoint: str | None = None,
    ) -> None:
        """Sign for `bucket` on the server at the endpoint, which is Google's where absent."""
        self.kind = kind
        self._credentials = credentials
        self._bucket = bucket
        self._endpoint = (api_access_endpoint or CLOUD_ENDPOINT).rstrip("/")

    def sign(self, names: Sequence[str], *, ttl: timedelta, now: datetime) -> list[SignedUrl]:
        """Sign a GET of each object, for 7 days at most, in the order of `names`.

        Raises:
            ValueError: `ttl` is less than a second, or `now` has no time zone.
        """
        issue = _Issue.of(
            self.kind,
            email=self._credentials.signer_email,
            endpoint=self._endpoint,
            bucket=self._bucket,
            at=_whole_second(now),
            life=_life(ttl, MAX_TTL),
        )
        return [issue.url(name, self._credentials.sign_bytes) for name in names]


class IamSigner(UrlSigner):
    """Signs through IAM signBlob as a service account: no key file, 12 h at most."""

    kind = "iam"

    def __init__(
        self,
        *,
        credentials: google.auth.credentials.Credentials,
        bucket: str,
        service_account_email: str | None = None,
        request: Callable[..., Any] | None = None,
    ) -> None:
        """Sign as the account named, else the credentials' own; `request` is the transport."""
        self._credentials = credentials
        self._bucket = bucket
        self._email = service_account_email
        self._request = request or partial(Request(), timeout=_IAM_TIMEOUT_S)
        # One for all calls: a refresh signs several batches at once.
        self._in_flight = threading.BoundedSemaphore(_IAM_THREADS)

    def sign(self, names: Sequence[str], *, ttl: timedelta, now: datetime) -> list[SignedUrl]:
        """Sign a GET of each object, eight at once, in the order of `names`.

        Asked to slow down, it waits and tries again, for a minute at most.

        Raises:
            StorageUnavailable: IAM refuses, is too busy, or cannot be reached.
            ValueError: `ttl` is less than a second, or `now` has no time zone.
        """
        at, life = _whole_second(now), _life(ttl, MAX_IAM_TTL)
        pool = ThreadPoolExecutor(_IAM_THREADS, thread_name_prefix="iam-signer")
        try:
            email = self._signing_email()
            issue = _Issue.of(
                self.kind,
                email=email,
                endpoint=CLOUD_ENDPOINT,
                bucket=self._bucket,
                at=at,
                life=life,
            )
            signer = iam.Signer(self._patient_request, self._credentials, email)
            return list(pool.map(lambda name: issue.url(name, signer.sign), names))
        except _SlowDownError:
            raise StorageUnavailable("IAM asks us to sign fewer URLs a minute") from None
        except (exceptions.GoogleAuthError, requests.RequestException, OSError) as error:
            # Not chained: the vendor's text holds what IAM answered.
            message = (
                f"IAM does not sign URLs for us ({type(error).__name__}); the service account"
                " needs roles/iam.serviceAccountTokenCreator on itself"
            )
            raise StorageUnavailable(message).with_fix(_IAM_FIX) from None
        finally:
            pool.shutdown(cancel_futures=True)

    def _patient_request(self, **call: Any) -> Any:  # noqa: ANN401 - google-auth's transport
        # Not `stamina.retry`: it logs the arguments of what it repeats, our token among them.
        for attempt in stamina.retry_context(
            on=_SlowDownError, attempts=8, timeout=60, wait_initial=0.5, wait_max=10
        ):
            with attempt:
                with self._in_flight:
                    response = self._request(**call)
                if response.status == HTTPStatus.TOO_MANY_REQUESTS:
                    raise _SlowDownError
                return response
        raise AssertionError("unreachable")

    def _signing_email(self) -> str:
        # The e-mail of a machine's account is known only after the first refresh; and one
        # refresh here spares eight threads one each.
        if not self._credentials.valid:
            self._credentials.refresh(self._request)
        email = self._email or getattr(self._credentials, "service_account_email", None)
        if not email:
            raise CredentialsMissing(
                "these credentials belong to no service account, so they cannot sign URLs"
            )
        return str(email)


def key_file_signer(path: str | Path, *, bucket: str) -> KeySigner:
    """A signer with a service account's key file.

    Raises:
        StorageUnavailable: the file is missing or holds no private key.
    """
    try:
        credentials = service_account.Credentials.from_service_account_file(str(path))
    except (OSError, ValueError, exceptions.GoogleAuthError):
        raise StorageUnavailable(
            "GOOGLE_APPLICATION_CREDENTIALS names no service account's key file"
        ).with_fix(_KEY_FIX) from None
    return KeySigner(kind="key_file", credentials=credentials, bucket=bucket)


def iam_signer(*, bucket: str) -> IamSigner:
    """A signer with Application Default Credentials.

    Raises:
        StorageUnavailable: there are none.
    """
    try:
        credentials, _project = google.auth.default(scopes=[_SCOPE])
    except (exceptions.GoogleAuthError, OSError):
        raise CredentialsMissing(
            "no Google Cloud credentials were found (Application Default Credentials)"
        ) from None
    return IamSigner(credentials=credentials, bucket=bucket)


def local_signing_key(home: Path) -> service_account.Credentials:
    """The throw-away key of a home, made at first use; for the local bucket only.

    Raises:
        StorageUnavailable: the key cannot be read or written.
    """
    path = home / "signing-key.json"
    try:
        if not path.exists():
            _make_key(path)
        info = json.loads(path.read_text(encoding="utf-8"))
        key: service_account.Credentials
        key = service_account.Credentials.from_service_account_info(info)
    except (OSError, ValueError, exceptions.GoogleAuthError):
        raise StorageUnavailable(
            "the local signing key cannot be used; delete signing-key.json under HOME"
        ).with_fix("Delete signing-key.json under HOME, and let HOME be written to.") from None
    return key


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
        "private_key": pem.decode("ascii"),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    # `mkstemp` makes the file readable by its owner only.
    descriptor, partial_name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(info, file)
        file.flush()
        os.fsync(file.fileno())
    try:
        # Of several processes that make one at once, the first to link it wins.
        os.link(partial_name, path)
    except FileExistsError:
        pass
    finally:
        Path(partial_name).unlink()


def _whole_second(now: datetime) -> datetime:
    if now.tzinfo is None:
        message = f"{now} has no time zone"
        raise ValueError(message)
    return now.astimezone(UTC).replace(microsecond=0)


def _life(ttl: timedelta, most: timedelta) -> timedelta:
    if ttl < _MIN_TTL:
        message = f"a link cannot live for {ttl}"
        raise ValueError(message)
    return timedelta(seconds=int(min(ttl, most).total_seconds()))
