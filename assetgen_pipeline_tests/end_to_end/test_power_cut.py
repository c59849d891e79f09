"""Everything is killed at once in the middle of everything; `up` alone brings every batch home."""

import pytest

from assetgen_pipeline.defs import control
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.wiring.services import open_all
from assetgen_pipeline_tests.processes import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

ROWS = 30
STACK_SETTINGS = {"ASSETGEN_LOCAL_LATENCY_S": "0.5", "ASSETGEN_GENERATION_CONCURRENCY": "2"}


def submit(stack, owner, name):
    file = stack.file(f"{name}.csv", ROWS)
    return stack.answer("submit", file, "--owner", owner)[1]["batch_id"]


def test_after_a_power_cut_every_batch_is_finished_without_a_human(stack):
    settings = load_settings()
    stack.start()
    # Two at work, one queued behind its owner's first; one more is dropped at the last moment.
    batches = [
        submit(stack, owner, name)
        for owner, name in (("ada", "one"), ("ben", "two"), ("ada", "three"))
    ]

    def paid():
        with open_all(settings) as services:
            done = [a for b in batches for a in services.ledger.attempts(b) if a.image is not None]
        return len(done) >= 10

    until(paid, every_s=0.5)
    batches.append(submit(stack, "cleo", "four"))
    stack.cut()

    stack.start()
    with open_all(settings) as services:

        def ended():
            states = []
            for batch_id in batches:
                if services.store.stat(BatchFolder(batch_id).status) is None:
                    return False
                states.append(read_status(batch_id, store=services.store).state)
            return set(states) == {BatchState.COMPLETED}

        until(ended, every_s=1.0)
        attempts = [a for b in batches for a in services.ledger.attempts(b)]
        made = [(a.batch_id, a.item_key) for a in attempts if a.state is AttemptState.CAPTURED]
        in_flight = [a for a in attempts if a.state is AttemptState.ASSUMED]
        assert len(made) == len(set(made)) == len(batches) * ROWS
        assert len(in_flight) <= 4
        assert services.ledger.open_holds() == []
        assert [check.name for check in services.ledger.verify() if check.violations] == []
        assert list(services.store.list("inbox/")) == []
        until(lambda: not list(services.store.list("index/waiting/")))
    until(lambda: {u for _, u in control.pool_slots(settings).values()} == {0})
