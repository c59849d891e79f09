"""What tests of costs share."""

from datetime import date
from decimal import Decimal

from assetgen_pipeline_tests.builders import BATCH_ID, NOW


def a_fact(*, day=date(2026, 3, 1), cost_micros=2_000, **changes):
    """One delivered image for $0.002; say otherwise with `changes`."""
    return {
        "dt": day,
        "batch_id": BATCH_ID,
        "owner": "ada",
        "scene_id": "S1",
        "row_number": 1,
        "variant": 1,
        "provider": "local",
        "model": "storyboard-1",
        "status": "delivered",
        "attempts": 1,
        "cost_micros": cost_micros,
        "cost_usd": Decimal(cost_micros) / 1_000_000,
        "cost_basis": "flat",
        "price_version": "p",
        "lane": "stable",
        "spend_date": day,
        "budget_date": day,
        "latency_ms": 5,
        "created_at": NOW,
        "run_id": "r",
        "image_uri": "gs://b/i.png",
        **changes,
    }
