"""`up`, or one run of it, is stopped in the middle of paid calls."""

import json
import re
import signal
import urllib.request

import pytest

from assetgen_pipeline.domain.budget import AttemptState
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.wiring.services import open_all
from assetgen_pipeline_tests.processes import DEADLINE_S, processes_of, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

# So many that the signal comes in the middle on any machine.
ROWS = 80
STACK_SETTINGS = {"ASSETGEN_LOCAL_LATENCY_S": "3", "ASSETGEN_GENERATION_CONCURRENCY": "4"}

RUNS = '{runsOrError(filter: {pipelineName: "generate_batch"}) {... on Runs {results {runId}}}}'


def submitted(stack):
    """A batch of `ROWS` rows, and what reads its attempts."""
    file = stack.file("many.csv", ROWS)
    batch_id = stack.answer("submit", file, "--owner", "ada")[1]["batch_id"]

    def attempts():
        with open_all(load_settings()) as services:
            return services.ledger.attempts(batch_id)

    until(lambda: any(attempt.image is not None for attempt in attempts()), every_s=0.5)
    return batch_id, attempts


def has_ended(batch_id, state):
    with open_all(load_settings()) as services:
        return read_status(batch_id, store=services.store).state is state


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_calls_in_flight_are_finished_and_nothing_is_made_again(stack, number):
    up = stack.start()
    batch_id, attempts = submitted(stack)
    up.send_signal(number)
    assert up.wait(timeout=DEADLINE_S) == 0
    left = processes_of(stack.home)
    before = attempts()
    # What is left goes fast.
    stack.variables = {}
    stack.start()
    until(lambda: has_ended(batch_id, BatchState.COMPLETED), every_s=1.0)
    after = attempts()
    assert [command for command in left.values() if "dagster" in command] == []
    assert {attempt.state for attempt in before} == {AttemptState.CAPTURED}
    assert len(before) < ROWS
    assert {attempt.state for attempt in after} == {AttemptState.CAPTURED}
    assert len(after) == ROWS


def test_a_run_that_is_terminated_in_the_ui_finishes_its_calls(stack):
    stack.start()
    url = re.search(r"http://127\.0\.0\.1:\d+", stack.log.read_text(encoding="utf-8")).group()

    def ask(query):
        request = urllib.request.Request(
            f"{url}/graphql",
            data=json.dumps({"query": query}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)["data"]

    batch_id, attempts = submitted(stack)
    # Of this job alone: at five past each hour the daemon publishes costs.
    [run] = ask(RUNS)["runsOrError"]["results"]
    told = ask(f'mutation {{terminateRun(runId: "{run["runId"]}") {{__typename}}}}')
    until(lambda: has_ended(batch_id, BatchState.CANCELLED), every_s=1.0)

    assert told == {"terminateRun": {"__typename": "TerminateRunSuccess"}}
    assert {attempt.state for attempt in attempts()} == {AttemptState.CAPTURED}
    assert len(attempts()) < ROWS
