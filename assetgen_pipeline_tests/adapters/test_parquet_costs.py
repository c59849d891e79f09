"""Cost facts as Parquet: awkward values survive, and pandas is not needed to write them."""

import io
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow.parquet as pq

from assetgen_pipeline.adapters.parquet_costs import ParquetCostFacts
from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.domain.cost_facts import FACT_COLUMNS
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline_tests.builders import BATCH_ID

DAY = date(2026, 3, 1)
VALUES = {
    "date": DAY,
    "string": 'a "quoted"\nline, with \u2028 and ä\\',
    "int32": 7,
    "int64": 2**60,
    "boolean": True,
    "decimal(18,6)": Decimal("123456789012.000001"),
    "timestamp": datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC),
}


def read_back(store):
    data = store.read(BatchFolder(BATCH_ID).costs(DAY.isoformat()))
    return pq.read_table(io.BytesIO(data)).to_pylist()


def test_awkward_values_are_read_back_as_they_were():
    store = InMemoryObjectStore()
    fact = {column.name: VALUES[column.type] for column in FACT_COLUMNS}

    ParquetCostFacts(store).publish(BATCH_ID, DAY, [fact, fact])

    del fact["dt"]
    assert read_back(store) == [fact, fact]


def test_missing_times_stay_missing():
    store = InMemoryObjectStore()
    fact = {column.name: VALUES[column.type] for column in FACT_COLUMNS} | {"created_at": None}

    ParquetCostFacts(store).publish(BATCH_ID, DAY, [fact])

    assert read_back(store)[0]["created_at"] is None


ATTACHMENTS = f"""
import ctypes, datetime, threading
from decimal import Decimal
from assetgen_pipeline.adapters.parquet_costs import ParquetCostFacts
from assetgen_pipeline.domain.cost_facts import FACT_COLUMNS
from assetgen_pipeline.testing.object_store import InMemoryObjectStore

def attachments():
    # How many thread states the interpreter has made: one per thread that ran it.
    ids = []
    identify, present = ctypes.pythonapi.PyThreadState_GetID, ctypes.pythonapi.PyThreadState_Get
    identify.argtypes, identify.restype = [ctypes.c_void_p], ctypes.c_uint64
    present.restype = ctypes.c_void_p
    thread = threading.Thread(target=lambda: ids.append(identify(present())))
    thread.start()
    thread.join()
    return ids[0]

day, values = datetime.date(2026, 3, 1), {VALUES!r}
fact = {{column.name: values[column.type] for column in FACT_COLUMNS}} | {{"cost_micros": 7}}
costs = ParquetCostFacts(InMemoryObjectStore())
before = attachments()
for rows in (5_000, 5_001):
    costs.publish({BATCH_ID!r}, day, [fact] * rows)
print(costs.batch_cost({BATCH_ID!r}, day).micros, attachments() - before)
"""


def said(script):
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_no_thread_of_arrow_enters_the_interpreter():
    # One that does so while the interpreter ends aborts a command that had done its work.
    assert said(ATTACHMENTS) == [str(7 * 5_001), "1"]


def test_pyarrow_is_loaded_with_the_first_file_and_pandas_never():
    script = f"""
import sys
from datetime import date
from assetgen_pipeline.adapters.parquet_costs import ParquetCostFacts
from assetgen_pipeline.domain.cost_facts import FACT_COLUMNS
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
facts = ParquetCostFacts(InMemoryObjectStore())
print(facts.batch_cost({BATCH_ID!r}, date(2026, 3, 1)), "pyarrow" in sys.modules)
row = {{column.name: None for column in FACT_COLUMNS}} | {{"cost_micros": 7}}
for _ in range(2):
    print(facts.publish({BATCH_ID!r}, date(2026, 3, 1), [row]))
print(facts.batch_cost({BATCH_ID!r}, date(2026, 3, 1)).micros, "pandas" in sys.modules)
"""
    assert said(script) == ["None", "False", "True", "False", "7", "False"]
