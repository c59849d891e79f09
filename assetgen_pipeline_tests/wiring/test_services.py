"""What the stages of a batch share, and when each of it is opened."""

from datetime import timedelta

import pytest

from assetgen_pipeline.domain.errors import StorageUnavailable
from assetgen_pipeline.domain.money import ZERO
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.testing.clock import ManualClock
from assetgen_pipeline.testing.ledger import InMemoryLedger
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline.wiring.deployment import csv_limits
from assetgen_pipeline.wiring.services import open_services
from assetgen_pipeline_tests.builders import BUCKET, NOW


@pytest.fixture
def services(tmp_path, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("ASSETGEN_MAX_ROWS", "7")
    clock = ManualClock(NOW)

    def opened(signer):
        settings = load_settings(home=tmp_path, signer=signer)
        store = InMemoryObjectStore(BUCKET, clock=clock)
        return open_services(
            settings, store=store, ledger=InMemoryLedger(clock=clock, default_limit=ZERO)
        )

    return opened


def test_a_signer_that_cannot_be_opened_fails_what_is_signed_and_nothing_else(services):
    with services("key_file") as opened:
        assert opened.csv_limits.max_rows == 7
        with pytest.raises(StorageUnavailable, match="GOOGLE_APPLICATION_CREDENTIALS"):
            opened.signer.sign(["a"], ttl=timedelta(hours=1), now=NOW)


def test_the_signer_is_opened_once(services, monkeypatch):
    with services("local") as opened:
        [first] = opened.signer.sign(["a"], ttl=timedelta(hours=1), now=NOW)
        monkeypatch.setattr("assetgen_pipeline.wiring.services.open_signer", None)
        [second] = opened.signer.sign(["a"], ttl=timedelta(hours=1), now=NOW)

    assert (first, first.signer) == (second, "local")


def test_the_limits_of_files_are_settings(tmp_path):
    settings = load_settings(home=tmp_path, max_rows=7, max_columns=8, max_file_mib=9)

    limits = csv_limits(settings)

    assert (limits.max_rows, limits.max_columns, limits.max_bytes) == (7, 8, 9 * 1024 * 1024)
