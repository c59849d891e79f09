"""Batches whose progress is reported."""

from assetgen_pipeline.stages.progress import Progress
from assetgen_pipeline_tests.builders import RUN_ID
from assetgen_pipeline_tests.stage_bench import Bench, some_requests


def watched(count=2):
    bench = Bench()
    batch = bench.open(*some_requests(count))
    return bench, batch, a_progress(bench, batch)


def a_progress(bench, batch, **changes):
    return Progress(
        batch.batch_id,
        **{
            "provider": "local",
            "rows": len(batch.requests),
            "images": batch.images_requested,
            "failed_by_reference": 0,
            "run_id": RUN_ID,
            "services": bench.services,
            **changes,
        },
    )
