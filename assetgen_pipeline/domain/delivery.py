"""Delivery: signed URLs, how long they are good for, and when they must be signed anew.

A signed URL is a bearer token that belongs in result files and nowhere else; everything
here but `SignedUrl` says only when links end and who signed them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol

from assetgen_pipeline.domain.image_request import Value

# What Google promises for a signature at most.
LONGEST_LIFE = timedelta(days=7)
_LIFETIME_SHARE = 10
_MOST_OF_LIFE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedUrl:
    """A bearer token for one object; belongs in result files and nowhere else."""

    url: str
    expires_at: datetime
    signer: str


class Ends(Protocol):
    """Anything that stops working at an instant."""

    @property
    def expires_at(self) -> datetime:
        """The instant, aware."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlPolicy:
    """How long signed URLs live, when one is too old, and how long they are kept fresh."""

    ttl: timedelta = LONGEST_LIFE
    refresh_margin: timedelta = timedelta(minutes=5)
    refresh_retention: timedelta = timedelta(days=90)


class RefreshCause(StrEnum):
    """Why links were signed, or given up."""

    RUN = "run"
    EXPIRING = "expiring"
    OPERATOR = "operator"
    LAPSED = "lapsed"


class LinkAction(StrEnum):
    """What published links need now."""

    WAIT = "wait"
    REFRESH = "refresh"
    LAPSE = "lapse"


class LinkRefresh(Value):
    """One signing of a batch's links; times are ISO 8601 UTC, empty where there is none."""

    at: str
    cause: RefreshCause
    signer: str
    urls: int
    old_expires_at: str
    new_expires_at: str


class SignedUrls(Value):
    """What was signed for a batch, never the URLs themselves: the artifact of `signed_urls`."""

    batch_id: str
    urls: int
    signer: str
    expires_at: str
    """When the first of them stops working, ISO 8601 UTC; empty without URLs."""
    signed_at: str = ""
    published_at: str = ""
    """When the run that made these results signed them first."""
    lapsed: bool = False
    """Whether they were given up: no longer kept fresh, and taken out of the results."""
    refreshes: tuple[LinkRefresh, ...] = ()

    @property
    def life(self) -> "LinkLife | None":
        """When these links were signed and end, `None` where there are none."""
        if not self.expires_at or not self.signed_at or self.lapsed:
            return None
        return LinkLife(
            signed_at=datetime.fromisoformat(self.signed_at),
            expires_at=datetime.fromisoformat(self.expires_at),
            published_at=datetime.fromisoformat(self.published_at),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLife:
    """When the links of a batch were published and last signed, and when they end."""

    signed_at: datetime
    expires_at: datetime
    published_at: datetime

    def as_metadata(self) -> dict[str, str]:
        """The three instants as an object's metadata."""
        return {
            "signed_at": self.signed_at.isoformat(),
            "expires_at": self.expires_at.isoformat(),
            "published_at": self.published_at.isoformat(),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], *, hour: datetime) -> "LinkLife":
        """The inverse; what cannot be read counts as ending when `hour` begins.

        So an index entry that somebody else wrote is looked at, and never trusted.
        """
        names = ("signed_at", "expires_at", "published_at")
        try:
            instants = [datetime.fromisoformat(metadata[name]) for name in names]
        except (KeyError, ValueError):
            instants = []
        if not instants or any(instant.tzinfo is None for instant in instants):
            instants = [hour] * len(names)
        return cls(**dict(zip(names, instants, strict=True)))

    def is_retained(self, now: datetime, policy: UrlPolicy) -> bool:
        """Whether published links are still kept fresh."""
        # Subtracted, because no calendar has the end of a retention of ten thousand years.
        return now - self.published_at < policy.refresh_retention

    def action(self, now: datetime, policy: UrlPolicy) -> LinkAction:
        """What published links need: kept fresh within the retention, given up after it."""
        if self.is_retained(now, policy):
            life = min(policy.ttl, self.expires_at - self.signed_at)
            margin = published_margin(life, policy.refresh_margin)
            return LinkAction.REFRESH if needs_refresh(self, now, margin) else LinkAction.WAIT
        return LinkAction.LAPSE if self.expires_at <= now else LinkAction.WAIT


def needs_refresh(url: Ends, now: datetime, margin: timedelta) -> bool:
    """Whether a URL has less than `margin` left."""
    # Python subtracts the wall clocks of two instants of one zone: an hour wrong over DST.
    return url.expires_at.astimezone(UTC) - now.astimezone(UTC) < margin


def published_margin(ttl: timedelta, margin: timedelta) -> timedelta:
    """How much a published link must have left: the margin, or a tenth of its life.

    Never more than half of it, or links that live shortly would be signed without end.
    """
    return min(max(margin, ttl / _LIFETIME_SHARE), ttl / _MOST_OF_LIFE)


def run_margin(ttl: timedelta, margin: timedelta) -> timedelta:
    """How much a link must have left when a run hands it out: the margin, or half its life."""
    return min(margin, ttl / _MOST_OF_LIFE)
