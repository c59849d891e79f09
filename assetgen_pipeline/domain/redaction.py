"""What must never be read in a log, an event or a problem, and how it is blacked out.

The one list of patterns: signatures of links, keys and tokens. Whatever writes text for
people or machines passes it through `redact`; result files, where links belong, do not.
"""

import re

REDACTED = "[redacted]"

# Query parameters that sign a link or carry a key, at any place of a text, also encoded.
_PARAMETERS = (
    "X-Goog-Signature|X-Goog-Credential|X-Goog-Security-Token"
    "|X-Amz-Signature|X-Amz-Credential|X-Amz-Security-Token|AWSAccessKeyId|GoogleAccessId"
    "|Signature|sig|access_token|refresh_token|id_token|token|api[_-]?key|key|password|secret"
    "|client[_-]secret|PGPASSWORD"
)
_VALUE = r"""[^&\s"'<>\\]+"""
# A URL within a URL is encoded once or twice; JSON for web pages writes `&` as `\u0026`.
_STARTS = "(?<![a-z0-9_-])|(?<=%3F)|(?<=%26)|(?<=%253F)|(?<=%2526)|(?<=u0026)"
# In a dump of headers, which is also a list of pairs, text or bytes.
_SAYS = r"""(?:["']?\s{0,9}[:=]|["'],)\s{0,9}(?:b(?=["']))?["']?"""
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{1,40}-----.*?(?:-----END [A-Z0-9 ]{1,40}-----|\Z)", re.DOTALL
        ),
        REDACTED,
    ),
    (
        re.compile(rf"(?i)(?:{_STARTS})({_PARAMETERS})(=|%3D|%253D){_VALUE}"),
        rf"\1\2{REDACTED}",
    ),
    (
        re.compile(
            rf"""(?i)(["']?(?:proxy-)?authorization{_SAYS})"""
            r"""(?:(?:bearer|basic|digest)\s{1,9})?"""
            rf"{_VALUE}"
        ),
        rf"\1{REDACTED}",
    ),
    (
        re.compile(
            rf"""(?i)(["']?x-(?:goog-)?api-key{_SAYS})"""
            rf"{_VALUE}"
        ),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"(?i)\b(bearer)\s{1,9}[a-z0-9._~+/-]{8,}=*"), rf"\1 {REDACTED}"),
    (re.compile(r"(?<![A-Za-z0-9])(?:AIza|AQ\.|sk-|ya29\.)[A-Za-z0-9._-]{8,}"), REDACTED),
    # Whoever has the address of an incoming webhook can post.
    (re.compile(rf"(?i)(hooks\.slack\.com/[a-z]+/){_VALUE}"), rf"\1{REDACTED}"),
    # An RSA signature in hex has 512 digits; no hash in use has more than 128.
    (re.compile(r"[0-9a-fA-F]{256,}"), REDACTED),
    # The name and password of a URL; a password may hold `@` or `/`, which ought to be encoded.
    (re.compile(r"(://)[^/\s\"'<>]{1,200}@"), rf"\1{REDACTED}@"),
    (
        re.compile(r"(://)[^/\s:@?#\"'<>]{1,100}:(?!\d{1,5}/)[^\s@?#\"'<>]{1,200}@"),
        rf"\1{REDACTED}@",
    ),
)


def redact(text: str) -> str:
    """The text with every signature, key and token in it blacked out."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text
