"""Objects of our own bucket behind a URL, however the URL is spelt.

What is recognised here is read with the bucket's client and judged by its folder, so a
signed URL of ours works after it expired, and no spelling opens another owner's folder.
Other addresses of Google's storage are strangers' servers: asked anonymously, like any.
"""

import ipaddress
import re
from urllib.parse import SplitResult, unquote, urlsplit

from assetgen_pipeline.domain.errors import ReferenceBlocked

# The addresses of the XML API, which signed URLs use, and of the console's links.
_XML_HOSTS = ("storage.googleapis.com", "storage.cloud.google.com", "commondatastorage.googleapis.com")  # fmt: skip
_JSON_HOSTS = ("storage.googleapis.com", "www.googleapis.com", "storage-download.googleapis.com")
_JSON_PATH = re.compile(r"\A(?:/download)?/storage/v1/b/(?P<bucket>[^/]+)/o/(?P<name>.+)\Z")
_PORTS = {"http": 80, "https": 443}
_OWNER_FOLDERS = ("inbox", "outbox", "images", "references", "thumbnails")


def own_object(url: str, *, bucket: str, endpoint: str = "") -> str | None:
    """The name of the object of our bucket that a URL means; `None` where it is not ours.

    `endpoint` is the address of the emulator, where one stands in for Google.
    """
    parts = urlsplit(url)
    if parts.scheme == "gs":
        return parts.path.removeprefix("/") if parts.netloc == bucket else None
    host = (parts.hostname or "").rstrip(".")
    # Encoded slashes and dots are decoded before the folder is judged.
    path = unquote(parts.path)
    if endpoint and is_at_endpoint(parts, endpoint):
        return _json_name(parts.path, bucket) or _after(f"/{bucket}/", path)
    for known in _XML_HOSTS:
        if host == f"{bucket}.{known}":
            return path.removeprefix("/")
    name = _json_name(parts.path, bucket) if host in _JSON_HOSTS else None
    if name is None and host in _XML_HOSTS:
        name = _after(f"/{bucket}/", path)
    return name


def check_own_object(name: str, *, owner: str) -> None:
    """Accept an object that rows of `owner` may name as a reference.

    Raises:
        ReferenceBlocked: with the code `reference-not-permitted`.
    """
    folders = (*(f"{folder}/{owner}/" for folder in _OWNER_FOLDERS), "packs/")
    # The local bucket is a file system, where these segments would lead elsewhere.
    climbs = any(segment in {"", ".", ".."} for segment in name.split("/"))
    odd = "\\" in name or not name.isprintable()
    if climbs or odd or not name.startswith(folders):
        raise not_permitted()


def not_permitted() -> ReferenceBlocked:
    """The refusal of an object that is in no folder of the owner's."""
    return ReferenceBlocked(
        "an object of a bucket must be in this bucket, under packs/ or the owner's folders",
        code="reference-not-permitted",
    )


def is_at_endpoint(parts: SplitResult, endpoint: str) -> bool:
    """Whether a URL leads to the emulator; every name of this machine's loopback is one."""
    own = urlsplit(endpoint)
    if _port(parts) != _port(own):
        return False
    host, own_host = (parts.hostname or "").rstrip("."), own.hostname or ""
    return host == own_host or (_is_loopback(host) and _is_loopback(own_host))


def _port(parts: SplitResult) -> int | None:
    return parts.port or _PORTS.get(parts.scheme)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _json_name(path: str, bucket: str) -> str | None:
    """The object in `…/b/<bucket>/o/<object>`, whose slashes the JSON API wants encoded."""
    match = _JSON_PATH.match(path)
    return unquote(match["name"]) if match and unquote(match["bucket"]) == bucket else None


def _after(start: str, path: str) -> str | None:
    return path.removeprefix(start) if path.startswith(start) else None
