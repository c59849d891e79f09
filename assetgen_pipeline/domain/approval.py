"""Approval: who let a batch spend more than `APPROVAL_ABOVE_USD`, and for which file."""

import hashlib

from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.status import Usd


class Approval(Value):
    """The document of `approval.json`."""

    batch_id: str
    approved_by: str
    approved_at: str
    amount_usd: Usd
    """The estimate that was approved."""
    request_sha256: str
    """The file that was approved; another file needs another approval."""

    def covers(self, estimate: Money, request: bytes) -> bool:
        """Whether it stands for this file at this price."""
        return estimate <= Money.from_usd(self.amount_usd) and self.request_sha256 == fingerprint(
            request
        )


def fingerprint(request: bytes) -> str:
    """The SHA-256 of a claimed file."""
    return hashlib.sha256(request).hexdigest()
