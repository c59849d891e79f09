"""Try a signed URL for real: its signature against the key, and the link against its server."""

import hashlib
import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from assetgen_pipeline.adapters.status_request import status_of

_SIGNATURE = "&X-Goog-Signature="
_TIMEOUT_S = 10.0


def signature_holds(url: str, key_file: Path) -> bool:
    """Whether the key in a service account's key file signed this V4 URL as it stands."""
    parts = urlsplit(url)
    query, _, signature = parts.query.partition(_SIGNATURE)
    fields = {name: values[0] for name, values in parse_qs(query).items()}
    credential_scope = fields["X-Goog-Credential"].partition("/")[2]
    request = f"GET\n{parts.path}\n{query}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    text = "\n".join(
        (
            fields["X-Goog-Algorithm"],
            fields["X-Goog-Date"],
            credential_scope,
            hashlib.sha256(request.encode()).hexdigest(),
        )
    )
    info = json.loads(key_file.read_text(encoding="utf-8"))
    key = serialization.load_pem_private_key(info["private_key"].encode(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        return False
    try:
        key.public_key().verify(
            bytes.fromhex(signature), text.encode(), padding.PKCS1v15(), hashes.SHA256()
        )
    except InvalidSignature:
        return False
    return True


def answer_of(url: str) -> int:
    """The status that a link's server answers, 0 where none answers."""
    try:
        return status_of("GET", url, timeout_s=_TIMEOUT_S)
    except (TimeoutError, httpx.HTTPError):
        return 0
