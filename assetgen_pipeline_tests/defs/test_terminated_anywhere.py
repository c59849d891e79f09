"""TERM at any call to the outside of a run: the batch goes on, and nothing is paid twice.

The steps are counted by a run without a signal, so a step that is added tomorrow is tested.
"""

import os
import signal
from dataclasses import replace

import dagster as dg
import pytest

from assetgen_pipeline.defs.closing import close_failed_run
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.stages.waiting_batches import read_waiting
from assetgen_pipeline.testing.faults import Faults
from assetgen_pipeline_tests.builders import BATCH_ID, a_csv
from assetgen_pipeline_tests.fake_deployment import FakeDeployment

pytestmark = pytest.mark.slow

CSV = a_csv(*([f"S{n}", f"scene {n}"] for n in range(1, 5)))
# All of them take minutes; a prime wanders through the steps of both shards.
EVERY = 7


class Terminated(Faults):
    """Sends TERM to this process at one step, and lets the step go on."""

    def __init__(self, *, at):
        super().__init__()
        self.at = at

    def step(self, label):
        super().step(label)
        if len(self.steps) == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


def run_of(instance, *, at):
    """A deployment whose first run is told to end at a step, and how many steps that had."""
    fakes = FakeDeployment(instance, generation_concurrency=2, shard_rows=2)
    fakes.upload(CSV)
    inner, faults = fakes.services, Terminated(at=at)
    fakes.services = replace(
        inner, store=faults.wrap("store", inner.store), ledger=faults.wrap("ledger", inner.ledger)
    )
    provider = faults.wrap("provider", fakes.provider)
    fakes.choose(open_provider=lambda _provider, _model: provider)
    fakes.run()
    fakes.services = inner
    return fakes, len(faults.steps)


def test_a_run_that_is_told_to_end_anywhere_is_finished_by_the_next_without_paying_twice():
    with dg.DagsterInstance.ephemeral() as instance:
        _, steps = run_of(instance, at=0)
    for at in range(1, steps + 1, EVERY):
        with dg.DagsterInstance.ephemeral() as instance:
            fakes, _ = run_of(instance, at=at)
            [run] = instance.get_runs()
            if run.status is dg.DagsterRunStatus.FAILURE:
                close_failed_run(instance, run, services=fakes.services)
            if fakes.status().state is not BatchState.COMPLETED:
                assert read_waiting(BATCH_ID, store=fakes.store).cause == "run", at
                fakes.run()

            states = [attempt.state for attempt in fakes.ledger.attempts(BATCH_ID)]
            assert fakes.status().state is BatchState.COMPLETED, at
            assert states == [AttemptState.CAPTURED] * 4, at
            assert len(fakes.asked()) == 4, at
            assert fakes.ledger.open_holds() == [], at
