"""Make text safe to send to somebody outside: patterns, known secrets, and every URL's query."""

import json
import re
from collections.abc import Iterable
from urllib.parse import quote, unquote

from assetgen_pipeline.domain.redaction import REDACTED, redact

# Shorter values (an empty key, `x`) would black out half of a log without hiding anything.
_SHORTEST_SECRET = 6
# Strangers' URLs carry tokens under names of their own. Every URL matches, also one without a
# query: from each of a thousand in one word the search would otherwise run on to its end.
_URL = re.compile(r"""(https?:(?:\\?/){2}(?:[^\s"'<>\\?#]|\\/)*+)([?#][^\s"'<>]*)?""")


def scrub(text: str, secrets: Iterable[str]) -> str:
    """The text without signatures, keys, the secrets named, or the query of any URL."""
    forms = {form for secret in secrets for form in _forms(secret)}
    for secret in sorted(forms, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, REDACTED)
    return redact(_URL.sub(_without_query, text))


def _without_query(url: re.Match[str]) -> str:
    return f"{url[1]}?{REDACTED}" if url[2] else url[1]


def _forms(secret: str) -> tuple[str, ...]:
    """How a secret may stand in a text: as it is, in JSON, in a URL, taken out of one."""
    return secret, json.dumps(secret)[1:-1], quote(secret, safe=""), unquote(secret)
