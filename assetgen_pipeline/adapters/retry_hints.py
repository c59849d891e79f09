"""How long a provider asks us to wait: header forms, durations and Google's RetryInfo."""

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

_LONGEST_S = 7 * 86_400.0
_PIECE = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_PIECE.pattern})+")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_IN_WORDS = re.compile(r"retry in (\d+(?:\.\d+)?)\s*(ms|s)", re.IGNORECASE)
_REMAINING, _RESET = "x-ratelimit-remaining-", "x-ratelimit-reset-"


def duration_s(text: str) -> float | None:
    """Seconds in `37.4s`, `120ms`, `6m0s`, `1h2m`; None for anything else."""
    text = text.strip().lower()
    if not _DURATION.fullmatch(text):
        return None
    return _within(sum(float(n) * _UNITS[unit] for n, unit in _PIECE.findall(text)))


def retry_in_words_s(text: str) -> float | None:
    """Seconds in a sentence such as `Please retry in 12.5s.`."""
    match = _IN_WORDS.search(text)
    return _within(float(match[1]) * _UNITS[match[2].lower()]) if match else None


def retry_after_s(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """What `retry-after-ms` or `Retry-After` (seconds or a date) says."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return _within(milliseconds / 1_000)
    text = headers.get("retry-after", "")
    seconds = _number(text)
    if seconds is not None:
        return _within(seconds)
    try:
        return _within((parsedate_to_datetime(text) - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        # Not a date, one without a zone, or one with numbers that no date has.
        return None


def used_up_s(headers: Mapping[str, str]) -> float | None:
    """When the longest of the limits that are used up is reset (`x-ratelimit-*`)."""
    resets = [
        reset
        for name, left in headers.items()
        if name.startswith(_REMAINING) and left.strip() == "0"
        if (reset := _reset_s(headers.get(_RESET + name.removeprefix(_REMAINING), ""))) is not None
    ]
    return max(resets, default=None)


def _reset_s(text: str) -> float | None:
    seconds = _number(text)
    return duration_s(text) if seconds is None else _within(seconds)


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\s*\d{1,12}(?:\.\d+)?\s*", text) else None


def _within(seconds: float) -> float:
    return min(max(seconds, 0.0), _LONGEST_S)
