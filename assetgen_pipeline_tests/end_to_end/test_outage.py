"""The ledger cannot be written in the middle of a batch for longer than any call waits, and comes back."""

import contextlib
import sqlite3

import dagster as dg
import pytest
from sqlalchemy.engine import make_url

from assetgen_pipeline.defs import control
from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.wiring.ledger import ledger_url
from assetgen_pipeline.wiring.services import open_all
from assetgen_pipeline_tests.processes import DEADLINE_S, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

ROWS = 12
STACK_SETTINGS = {"ASSETGEN_LOCAL_LATENCY_S": "3", "ASSETGEN_GENERATION_CONCURRENCY": "1"}


@contextlib.contextmanager
def ledger_away():
    """Somebody else keeps the ledger's file locked, so that no call can write to it."""
    path = make_url(ledger_url(load_settings())).database
    file = sqlite3.connect(path, isolation_level=None, timeout=DEADLINE_S)
    with contextlib.closing(file):
        file.execute("BEGIN IMMEDIATE")
        yield
        file.execute("ROLLBACK")


def runs(batch_id):
    with control.open_instance(load_settings()) as instance:
        return [
            (run.status, run.tags.get("assetgen/died"))
            for run in instance.get_runs(
                filters=dg.RunsFilter(tags={"dagster/partition": batch_id}), ascending=True
            )
        ]


def test_a_batch_that_the_outage_failed_is_finished_by_the_daemon_alone(stack):
    stack.start()
    batch_id = stack.answer("submit", stack.file("twelve.csv", ROWS), "--owner", "ada")[1][
        "batch_id"
    ]
    with open_all(load_settings()) as services:

        def delivered():
            return [a for a in services.ledger.attempts(batch_id) if a.image is not None]

        until(delivered, every_s=0.5)
        with ledger_away():
            until(lambda: runs(batch_id)[0][0] is dg.DagsterRunStatus.FAILURE, every_s=1.0)
            before = len(delivered())
        until(lambda: runs(batch_id)[-1][0] is dg.DagsterRunStatus.SUCCESS, every_s=1.0)
        status = read_status(batch_id, store=services.store)
        attempts = services.ledger.attempts(batch_id)
        broken = [check.name for check in services.ledger.verify() if check.violations]

    assert runs(batch_id) == [
        (dg.DagsterRunStatus.FAILURE, "true"),
        (dg.DagsterRunStatus.SUCCESS, None),
    ]
    assert status.state is BatchState.COMPLETED
    assert 0 < before < ROWS
    assert {attempt.state for attempt in attempts} == {AttemptState.CAPTURED}
    assert len(attempts) == len(delivered_items(attempts)) == ROWS
    assert broken == []


def delivered_items(attempts):
    return {attempt.item_key for attempt in attempts if attempt.image is not None}
