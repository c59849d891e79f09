"""What the tests of several adapters need."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from assetgen_pipeline.testing.provider_stub import ProviderStub


@pytest.fixture
def stub():
    with ProviderStub() as made:
        yield made


@pytest.fixture
def out_of_time_once_asked(monkeypatch, stub):
    """Every deadline is over when the stub has been asked, and not before: busy machines are slow."""
    real = asyncio.timeout

    @asynccontextmanager
    async def timeout(_seconds):
        async with real(None) as scope:

            async def watch():
                while not stub.counts["billed"]:  # noqa: ASYNC110 - the stub has no event of ours
                    await asyncio.sleep(0.01)
                scope.reschedule(0)

            watching = asyncio.create_task(watch())
            try:
                yield scope
            finally:
                watching.cancel()

    monkeypatch.setattr(asyncio, "timeout", timeout)
