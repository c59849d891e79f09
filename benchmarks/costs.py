"""`assetgen costs` over 1,000,000 facts, against bare DuckDB on the same files. JSON lines.

The facts stand in a local bucket, 500 to a file. `command` is the whole process, `verb` what
it does once it has started (list, copy, query), `bare` the same SQL on files that are on disk.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import duckdb

from assetgen_pipeline.adapters.cost_queries import copied_facts, summarize
from assetgen_pipeline.adapters.parquet_costs import ParquetCostFacts
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.clock import open_clock

FACTS = int(os.environ.get("FACTS", "1000000"))
PER_FILE, DAYS, TURNS = 500, 30, 3
ASSETGEN = str(Path(sys.executable).parent / "assetgen")
BARE = """SELECT {by}, count(*), sum(attempts), sum(cost_micros)
FROM read_parquet('{folder}/*/*.parquet', hive_partitioning = true) GROUP BY 1"""


def facts_of(number, day, now):
    owner = f"team{number % 17}"
    for row in range(PER_FILE):
        micros = 1_000 + (number * 31 + row * 7) % 90_000
        yield {
            "dt": day,
            "batch_id": f"{owner}.bench.{number:08x}",
            "owner": owner,
            "scene_id": f"S{row}",
            "row_number": row + 1,
            "variant": 1,
            "provider": "gemini" if row % 3 else "openai",
            "model": f"model-{row % 4}",
            "status": "failed" if row % 41 == 0 else "delivered",
            "attempts": 1 + row % 2,
            "cost_micros": micros,
            "cost_usd": Decimal(micros) / 1_000_000,
            "cost_basis": "usage",
            "price_version": "2026-01+0123abcd",
            "lane": "stable",
            "spend_date": day,
            "budget_date": day,
            "latency_ms": 4_000 + row,
            "created_at": now + timedelta(milliseconds=number * PER_FILE + row),
            "run_id": f"11111111-2222-3333-4444-{number:012d}",
            "image_uri": f"gs://acme/images/{owner}/ab/{number:020x}{row:020x}.png",
        }


def best(work):
    seconds = []
    for _ in range(TURNS):
        began = time.monotonic()
        work()
        seconds.append(time.monotonic() - began)
    return round(min(seconds), 2)


def measured(store, by, column, today):
    since = today - timedelta(days=DAYS)

    def command():
        subprocess.run(
            [ASSETGEN, "costs", "--by", by, "--since", f"{DAYS}d", "--json"],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    with copied_facts(store, since=since, today=today) as folder:
        query = BARE.format(by=column, folder=folder)
        bare = best(lambda: duckdb.connect().execute(query).fetchall())
    verb = best(lambda: summarize(store, column, since=since, today=today))
    whole = best(command)
    return {
        "benchmark": f"assetgen costs --by {by}",
        "facts": FACTS,
        "files": FACTS // PER_FILE,
        "command_s": whole,
        "verb_s": verb,
        "bare_duckdb_s": bare,
        "verb_to_bare": round(verb / bare, 1),
        "children_peak_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }


def main():
    with tempfile.TemporaryDirectory() as home:
        os.environ["ASSETGEN_HOME"] = home
        now = open_clock().now()
        with open_object_store(load_settings()) as store:
            facts = ParquetCostFacts(store)
            for number in range(FACTS // PER_FILE):
                day = now.date() - timedelta(days=number % DAYS)
                rows = list(facts_of(number, day, now))
                facts.publish(rows[0]["batch_id"], day, rows)
            for by, column in (("owner", "owner"), ("day", "dt"), ("batch", "batch_id")):
                print(json.dumps(measured(store, by, column, now.date())), flush=True)


if __name__ == "__main__":
    main()
