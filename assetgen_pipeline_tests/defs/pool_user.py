"""One of two processes that race for a pool: `pool_user.py INSTANCE_HOME TIMES_FILE MEET_DIR`.

Runs a graph asset with two mapped ops in the pool `generation`, and writes when each
began and ended.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

import dagster as dg

TIMES, MEET = Path(sys.argv[2]), Path(sys.argv[3])
DEADLINE_S = 60


def note(what):
    with TIMES.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"what": what, "at": time.monotonic()}) + "\n")


def meet():
    """Wait until both processes have loaded, so that they truly compete."""
    (MEET / str(os.getpid())).touch()
    deadline = time.monotonic() + DEADLINE_S
    while len(list(MEET.iterdir())) < 2 and time.monotonic() < deadline:
        threading.Event().wait(0.02)


@dg.op(out=dg.DynamicOut(int))
def plan():
    for index in range(2):
        yield dg.DynamicOutput(index, mapping_key=str(index))


@dg.op(pool="generation")
def work(index: int) -> int:
    note("begin")
    threading.Event().wait(1.0)
    note("end")
    return index


@dg.op
def gather(done: list[int]) -> int:
    return len(done)


@dg.graph_asset
def images():
    return gather(plan().map(work).collect())


if __name__ == "__main__":
    with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
        job = dg.Definitions(
            assets=[images], jobs=[dg.define_asset_job("generate", [images])]
        ).resolve_job_def("generate")
        meet()
        note("run begin")
        result = job.execute_in_process(instance=instance)
        note("run end")
    sys.exit(0 if result.success else 1)
