"""Batches whose run is over: abandoned, closed, and what that left."""

import asyncio

import pytest

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.stages.close_batch import close_batch
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, RUN_ID
from assetgen_pipeline_tests.read_results import read_results

FOLDER = BatchFolder(BATCH_ID)
RESULT_FILES = {FOLDER.results, FOLDER.failed, FOLDER.manifest, FOLDER.contact_sheet}


class Died(Exception):
    """Something that is no error of ours, with a secret in its text."""


def close(bench, error=None, *, run_id=RUN_ID):
    return close_batch(
        BATCH_ID, error or Died("/srv/key=hunter2"), run_id=run_id, services=bench.services
    )


def column(bench, name):
    return [row[name] for row in read_results(bench.store)]


def result_files(bench):
    return RESULT_FILES & set(bench.names(FOLDER.prefix))


async def abandon(bench, batch, *, done):
    """Generate `done` images, then disappear with one more in flight."""
    stuck = asyncio.Event()

    class Stuck(ScriptedProvider):
        """Never answers once `done` images were made."""

        async def generate(self, image, references, token):
            if len(self.requests) == done:
                stuck.set()
                self._hold = asyncio.Event()
            return await super().generate(image, references, token)

    task = asyncio.ensure_future(bench.generate(batch, Stuck(), concurrency=1))
    await stuck.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
