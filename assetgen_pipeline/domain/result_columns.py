"""The columns that `results.csv` adds to those of its input."""

from assetgen_pipeline.domain.image_request import MAX_VARIANTS

_VARIANTS = range(1, MAX_VARIANTS + 1)
RESULT_COLUMNS = (
    "status",
    "images_delivered",
    *(f"image_uri_{variant}" for variant in _VARIANTS),
    *(f"image_url_{variant}" for variant in _VARIANTS),
    *(f"thumbnail_url_{variant}" for variant in _VARIANTS),
    "urls_expire_at",
    "references_used",
    "references_unfetched",
    "cost_usd",
    "attempts",
    "error_code",
    "error",
)
