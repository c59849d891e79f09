"""Delivery: a signed URL, a bearer token that belongs in result files and nowhere else."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedUrl:
    """A bearer token for one object; belongs in result files and nowhere else."""

    url: str
    expires_at: datetime
    signer: str
