"""What a resource opens for a run, and what for a tick."""

from types import SimpleNamespace

import pytest

from assetgen_pipeline.defs.resources import ServicesResource
from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.domain.money import ZERO
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.ledger import InMemoryLedger
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline_tests.builders import BUCKET, NOW


@pytest.fixture
def open_for(tmp_path, monkeypatch):
    monkeypatch.setenv("ASSETGEN_HOME", str(tmp_path))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("ASSETGEN_SIGNER", "key_file")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    clock = ManualClock(NOW)
    resource = SimpleNamespace(
        object_store=InMemoryObjectStore(BUCKET, clock=clock),
        ledger=InMemoryLedger(clock=clock, default_limit=ZERO),
    )
    return lambda run: ServicesResource.yield_for_execution(resource, SimpleNamespace(run=run))


def test_a_run_that_nobody_can_sign_for_ends_before_its_first_step(open_for):
    with pytest.raises(StorageUnavailable, match="GOOGLE_APPLICATION_CREDENTIALS"):
        open_for(run=object()).__enter__()


def test_a_tick_works_without_a_signer(open_for):
    with open_for(run=None) as services:
        assert services.store.bucket == BUCKET
