"""Sign URLs: the only stage that makes them, and the results file the only place they stand."""

from datetime import datetime, timedelta

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.outcome import BatchOutcome
from assetgen_pipeline.domain.result_files import SignedLink, results_csv
from assetgen_pipeline.stages.parse_batch import CSV_TYPE
from assetgen_pipeline.stages.services import Services

_LIFETIME_SHARE = 10


class SignedUrls(Value):
    """What was signed, never the URLs themselves: the artifact of `signed_urls`."""

    batch_id: str
    urls: int
    signer: str
    expires_at: str
    """When the first of them stops working, ISO 8601 UTC; empty without URLs."""


def needs_refresh(expires_at: datetime, *, now: datetime, margin: timedelta) -> bool:
    """Whether a URL has `margin` or less left."""
    return expires_at - now <= margin


def published_margin(ttl: timedelta, margin: timedelta) -> timedelta:
    """How much a published link must have left: the margin, or a tenth of its life."""
    return max(margin, ttl / _LIFETIME_SHARE)


def sign_results(outcome: BatchOutcome, *, services: Services) -> SignedUrls:
    """Sign every delivered image and thumbnail afresh and write `results.csv`.

    Raises:
        StorageUnavailable: the bucket or the signing service cannot be reached.
    """
    folder, now = BatchFolder(outcome.batch_id), services.clock.now()
    names = [
        name
        for image in outcome.images
        if image.image is not None
        for name in (image.image.object_name, image.image.thumbnail_name)
    ]
    signed = services.signer.sign(list(dict.fromkeys(names)), ttl=services.urls.ttl, now=now)
    links = {
        name: SignedLink(url=url.url, expires_at=url.expires_at.isoformat())
        for name, url in zip(dict.fromkeys(names), signed, strict=True)
    }
    data = results_csv(outcome, links, bucket=services.store.bucket)
    services.store.write(folder.results, data, content_type=CSV_TYPE)
    first = min((url.expires_at for url in signed), default=None)
    if first is not None:
        services.store.write(folder.expiry(first), b"", content_type="text/plain")
    return SignedUrls(
        batch_id=outcome.batch_id,
        urls=len(signed),
        signer=services.signer.kind,
        expires_at=first.isoformat() if first is not None else "",
    )
