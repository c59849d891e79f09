"""The lint in front of the address guard: which reference URLs a file may name at all.

It judges text: literal addresses are decided here, names when connecting. What passes is
not yet safe to fetch.
"""

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import SplitResult, urlsplit

from assetgen_pipeline.domain.address_policy import is_public_address
from assetgen_pipeline.domain.errors import ReferenceBlocked
from assetgen_pipeline.domain.own_objects import (
    check_own_object,
    is_at_endpoint,
    not_permitted,
    own_object,
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_URL_CHARACTERS = 2048
_MAX_HOST_CHARACTERS = 253
_HTTPS_PORT = 443
_LABEL = re.compile(r"\A[a-z0-9_-]{1,63}\Z")
# A host whose last label is a number is an address to some resolver (decimal, octal, hex, short).
_NUMBER = re.compile(r"\A(?:[0-9]+|0x[0-9a-f]*)\Z")
_METADATA_HOSTS = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "instance-data"}
)
_INTERNAL_SUFFIXES = frozenset(
    {"localhost", "local", "internal", "localdomain", "lan", "home", "corp", "intranet", "svc"}
)


def check_reference_url(
    url: str,
    *,
    allowed_networks: Iterable[Network],
    own_bucket: str,
    owner: str,
    own_endpoint: str = "",
) -> None:
    """Accept a reference that a row of `owner` may name.

    An object of our bucket behind the emulator's address (`own_endpoint`) passes here; its
    folder is judged when it is read.

    Raises:
        ReferenceBlocked: with the code `reference-url-invalid`, `reference-blocked`, or
            `reference-not-permitted` for a bucket or folder that the owner may not use.
    """
    parts = _split(url)
    if parts.scheme == "gs":
        _check_object(parts, own_bucket=own_bucket, owner=owner)
        return
    if parts.scheme not in {"http", "https"}:
        raise _invalid("it must begin with https:// or gs://")
    ours = own_endpoint and is_at_endpoint(parts, own_endpoint)
    if ours and own_object(url, bucket=own_bucket, endpoint=own_endpoint) is not None:
        return
    _check_web_address(parts, tuple(allowed_networks))


def _split(url: str) -> SplitResult:
    if len(url) > MAX_URL_CHARACTERS:
        message = f"longer than {MAX_URL_CHARACTERS:,} characters"
        raise _invalid(message)
    if "\\" in url or any(char.isspace() or not char.isprintable() for char in url):
        raise _invalid("white space, control characters and backslashes are not allowed")
    try:
        parts = urlsplit(url)
        # Reading it is what checks it.
        _ = parts.port
    except ValueError as error:
        raise _invalid("not a well-formed URL") from error
    if any(char in parts.netloc for char in "@%") or parts.netloc.endswith(":"):
        raise _invalid("user names, percent signs and empty ports are not allowed before the path")
    if not parts.hostname:
        raise _invalid("it names no host")
    return parts


def _check_object(parts: SplitResult, *, own_bucket: str, owner: str) -> None:
    name = parts.path.removeprefix("/")
    if parts.query or parts.fragment or not name:
        raise _invalid("a gs:// reference is gs://bucket/object, without ? and #")
    if parts.netloc != own_bucket:
        raise not_permitted()
    check_own_object(name, owner=owner)


def _check_web_address(parts: SplitResult, allowed_networks: tuple[Network, ...]) -> None:
    host = parts.hostname or ""
    address = _literal(parts.netloc, host)
    if address is None:
        _check_name(host, intranet=bool(allowed_networks))
        exempt = bool(allowed_networks)
    else:
        exempt = _is_in(address, allowed_networks)
        if not exempt and not is_public_address(address):
            raise ReferenceBlocked("this address is not on the public internet")
    if parts.port == 0:
        raise _invalid("port 0 does not exist")
    if not exempt and (parts.scheme != "https" or parts.port not in {None, _HTTPS_PORT}):
        raise ReferenceBlocked("only https:// on port 443 is allowed")


def _literal(netloc: str, host: str) -> Address | None:
    bracketed = netloc.startswith("[")
    if not bracketed and not _NUMBER.match(host.rpartition(".")[2]):
        return None
    try:
        return ipaddress.ip_address(host)
    except ValueError as error:
        raise ReferenceBlocked("an address must be written in its usual form") from error


def _is_in(address: Address, networks: tuple[Network, ...]) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return any((mapped or address) in network for network in networks)


def _check_name(host: str, *, intranet: bool) -> None:
    """Where an intranet is allowed, its names are too; the guard judges what they resolve to."""
    labels = host.split(".")
    if len(host) > _MAX_HOST_CHARACTERS or not all(_LABEL.match(label) for label in labels):
        raise _invalid("the host is not a plain name (write an international one as xn--…)")
    internal = len(labels) == 1 or labels[-1] in _INTERNAL_SUFFIXES
    if host in _METADATA_HOSTS or (internal and not intranet):
        raise ReferenceBlocked("this host is not on the public internet")


def _invalid(reason: str) -> ReferenceBlocked:
    return ReferenceBlocked(reason, code="reference-url-invalid")
