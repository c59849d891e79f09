"""Google's check of a V4 URL, from the documentation and the URL's text alone.

The local bucket verifies no signature, and our signer is not asked here how it signs.
https://docs.cloud.google.com/storage/docs/access-control/signed-urls
"""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

NOW = datetime(2026, 3, 1, 23, 59, 58, 750_000, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class Refused(Exception):
    """Google would answer 400 or 403."""


def public_key_of(path):
    """The public half of a service account's key file."""
    info = json.loads(path.read_text())
    private = serialization.load_pem_private_key(info["private_key"].encode(), password=None)
    return private.public_key()


def verify(url, public_key, *, method="GET"):
    """Check a V4 URL as Google's documentation says, from the URL's text alone."""
    parts = urlsplit(url)
    query, _, signature = parts.query.partition("&X-Goog-Signature=")
    fields = dict(parse_qsl(query, strict_parsing=True))
    ordered = "&".join(
        f"{quote(name, safe='~')}={quote(value, safe='~')}"
        for name, value in sorted(fields.items())
    )
    path = quote(unquote(parts.path), safe="/~")
    canonical = f"{method}\n{path}\n{ordered}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    scope = fields["X-Goog-Credential"].split("/", 1)[1]
    text = "\n".join(
        [
            "GOOG4-RSA-SHA256",
            fields["X-Goog-Date"],
            scope,
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    assert fields["X-Goog-SignedHeaders"] == "host"
    assert scope == f"{fields['X-Goog-Date'][:8]}/auto/storage/goog4_request"
    public_key.verify(bytes.fromhex(signature), text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return fields


def accept(url, public_key, *, method="GET", at):
    """As the server does: the signature of this request, and within its time.

    Raises:
        Refused: the URL does not allow this request now.
        InvalidSignature: it was signed for another one.
    """
    fields = verify(url, public_key, method=method)
    signed = datetime.strptime(fields["X-Goog-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if not signed <= at < signed + timedelta(seconds=int(fields["X-Goog-Expires"])):
        message = f"not valid at {at}"
        raise Refused(message)
    return fields
