"""The forms that the text of a setting may have, where no type knows them."""

import re
from collections.abc import Collection, Iterable
from datetime import timedelta
from difflib import get_close_matches

_DURATION = re.compile(r"\A([0-9]{1,12})\s*(s|m|h|d)\Z")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
# https://cloud.google.com/storage/docs/buckets#naming
_BUCKET = re.compile(r"\A[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z")
_BUCKET_CHARACTERS = (3, 222)
_LEDGERS = ("sqlite", "postgresql+psycopg")


def duration(text: object) -> object:
    """Read `90s`, `5m`, `12h` or `7d`; anything else is left for the model to refuse."""
    match = _DURATION.match(text.strip()) if isinstance(text, str) else None
    try:
        return timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else text
    except OverflowError:
        return text


def bucket_name(value: str) -> str:
    """A name that a bucket of Cloud Storage can have.

    Raises:
        ValueError: it cannot.
    """
    least, most = _BUCKET_CHARACTERS
    parts = value.split(".")
    if not least <= len(value) <= most or not all(_BUCKET.match(part) for part in parts):
        message = (
            "not a bucket's name: 3 to 63 of a-z, 0-9, - and _ (more with dots),"
            " a letter or digit at both ends"
        )
        raise ValueError(message)
    return value


def ledger_address(value: str) -> str:
    """The URL of a database that a ledger can be in, or empty; it may hold a password.

    Raises:
        ValueError: of another database, or of a driver that is not ours.
    """
    scheme, separator, _ = value.partition("://")
    if value and not (separator and scheme in _LEDGERS):
        message = "not a ledger's URL: postgresql+psycopg://… or sqlite:///…"
        raise ValueError(message)
    return value


def strangers(names: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """The names that are not known, each with the known one nearest to it, or with nothing."""
    return {
        name: next(iter(get_close_matches(name, known, n=1, cutoff=0.8)), "")
        for name in sorted(set(names) - set(known))
    }
