"""One of two processes that want a pool: `pool_user.py INSTANCE_HOME TIMES_FILE [AFTER_FILE]`.

Runs a graph asset with a mapped op in the pool `generation`, and writes when it began and
ended. With `AFTER_FILE` it waits until the process that writes there holds the slot;
without, it keeps the slot until another run stands in the queue for it.
"""

import json
import sys
import threading
import time
from pathlib import Path

import dagster as dg

from assetgen_pipeline_tests.processes import until

TIMES = Path(sys.argv[2])
AFTER = Path(sys.argv[3]) if len(sys.argv) > 3 else None


def note(what):
    with TIMES.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"what": what, "at": time.monotonic()}) + "\n")


def somebody_is_waiting(instance):
    return instance.event_log_storage.get_concurrency_info("generation").pending_step_count > 0


@dg.op(out=dg.DynamicOut(int))
def plan():
    yield dg.DynamicOutput(0, mapping_key="0")


@dg.op(pool="generation")
def work(context: dg.OpExecutionContext, index: int) -> int:
    note("begin")
    if AFTER is None:
        until(lambda: somebody_is_waiting(context.instance))
    threading.Event().wait(0.3)
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
        if AFTER is not None:
            until(lambda: AFTER.exists() and "begin" in AFTER.read_text("utf-8"))
        result = job.execute_in_process(instance=instance)
    sys.exit(0 if result.success else 1)
