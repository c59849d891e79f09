"""A run's process is killed in the middle of generation; the next run finishes the batch."""

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter

import pytest

from assetgen_pipeline.defs import control
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import environment_for_children, load_settings
from assetgen_pipeline.stages.batch_status import read_status, write_status
from assetgen_pipeline.stages.parse_batch import CSV_TYPE, claim_metadata
from assetgen_pipeline.wiring.services import open_all
from assetgen_pipeline_tests.processes import DEADLINE_S, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

# So many that the kill comes in the middle on any machine.
ROWS = 60
BATCH = "ada.killed.00c0ffee"


@contextlib.contextmanager
def executing(settings):
    with (settings.home / "execute.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "assetgen_pipeline", "execute", BATCH],
            env=environment_for_children(settings),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def test_each_image_is_generated_once_although_the_worker_was_killed_amid_them(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("ASSETGEN_HOME", str(tmp_path))
    monkeypatch.setenv("ASSETGEN_LOCAL_LATENCY_S", "1")
    monkeypatch.setenv("ASSETGEN_GENERATION_CONCURRENCY", "2")
    settings = load_settings()
    with open_all(settings) as services:
        store, ledger = services.store, services.ledger
        store.create(
            BatchFolder(BATCH).request,
            "\n".join(["scene_id,prompt", *(f"S{n},scene {n}" for n in range(ROWS))]).encode(),
            content_type=CSV_TYPE,
            metadata=claim_metadata(run_id="", dry_run=False, clock=services.clock),
        )
        write_status(BATCH, BatchState.RECEIVED, store=store, clock=services.clock)

        def captured():
            return [a for a in ledger.attempts(BATCH) if a.image is not None]

        with executing(settings) as child:
            until(lambda: len(captured()) >= 5)
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        before = {a.item_key: a.attempt_id for a in captured()}

        monkeypatch.setenv("ASSETGEN_LOCAL_LATENCY_S", "0")
        with executing(load_settings()) as child:
            assert child.wait(timeout=DEADLINE_S) == 0

        after = captured()
        attempts = ledger.attempts(BATCH)
        in_flight = [a for a in attempts if a.state is AttemptState.ASSUMED]
        assert 5 <= len(before) < ROWS
        assert Counter(a.item_key for a in after) == {f"S{n}/1": 1 for n in range(ROWS)}
        assert before.items() <= {a.item_key: a.attempt_id for a in after}.items()
        assert len(in_flight) <= 2
        assert len(attempts) == ROWS + len(in_flight)
        assert read_status(BATCH, store=store).state is BatchState.COMPLETED
        assert ledger.open_holds() == []
        assert [check.name for check in ledger.verify() if check.violations] == []
    slots = control.pool_slots(settings)
    assert {name: used for name, (_limit, used) in slots.items()} == {
        "reference_fetch": 0,
        "generation": 0,
    }
