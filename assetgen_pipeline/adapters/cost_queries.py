"""SQL and data frames over the cost facts: the files of the days asked for, copied, then read.

A query holds a few files in memory at a time; DuckDB reads only the columns it needs.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import dataset as ds

from assetgen_pipeline.adapters.fact_files import FACTS
from assetgen_pipeline.adapters.object_readers import read_each
from assetgen_pipeline.domain.bucket_layout import COSTS
from assetgen_pipeline.domain.cost_facts import FACT_COLUMNS
from assetgen_pipeline.domain.errors import CostFactsUnreadable, ExtraMissing
from assetgen_pipeline.domain.money import MICROS_PER_USD
from assetgen_pipeline.ports.object_store import ObjectStore

_MANY_MONTHS = 36
_MEMORY = "512MB"
# An image that was tried on several budget days has a row on each; one is not `retried`.
_SUMS = """
SELECT CAST({by} AS VARCHAR) AS {by},
    count(*) FILTER (WHERE status <> 'retried') AS images,
    count(*) FILTER (WHERE status = 'delivered') AS delivered,
    CAST(sum(attempts) AS BIGINT) AS attempts,
    CAST(sum(cost_micros) AS HUGEINT) AS cost_micros
FROM read_parquet($files, hive_partitioning = true, hive_types = {{'dt': DATE}})
GROUP BY 1 ORDER BY {order}
"""


def summarize(
    store: ObjectStore, by: str, *, since: date, today: date
) -> list[dict[str, str | int]]:
    """Images, attempts and exact cost per value of a column: days in order, others dearest first.

    Raises:
        ExtraMissing: DuckDB is not installed.
        CostFactsUnreadable: a file is not Parquet of ours.
    """
    duckdb = _duckdb()
    order = "1" if by == "dt" else "cost_micros DESC, 1"
    statement = _SUMS.format(by=by, order=order)
    with copied_facts(store, since=since, today=today) as folder:
        if not any(folder.iterdir()):
            return []
        settings = {"memory_limit": _MEMORY, "temp_directory": str(folder.parent)}
        try:
            with duckdb.connect(config=settings) as connection:
                found = connection.execute(statement, {"files": f"{folder}/*/*.parquet"}).fetchall()
        except duckdb.Error as error:
            raise CostFactsUnreadable("a file of the cost facts cannot be read") from error
    names = (by, "images", "delivered", "attempts")
    return [{**dict(zip(names, row[:-1], strict=True)), "cost_usd": _usd(row[-1])} for row in found]


def load_facts(store: ObjectStore, *, since: date, today: date) -> pd.DataFrame:
    """All facts from `since` on, `dt` first, in day and file order.

    Raises:
        CostFactsUnreadable: a file is not Parquet of ours.
    """
    schema = pa.schema([("dt", pa.date32()), *FACTS])
    with copied_facts(store, since=since, today=today) as folder:
        hive = ds.partitioning(pa.schema([("dt", pa.date32())]), flavor="hive")
        try:
            facts = ds.dataset(folder, schema=schema, format="parquet", partitioning=hive)
            table = facts.to_table(columns=[column.name for column in FACT_COLUMNS])
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise CostFactsUnreadable("a file of the cost facts cannot be read") from error
    return table.to_pandas(date_as_object=False, strings_to_categorical=False)


@contextmanager
def copied_facts(store: ObjectStore, *, since: date, today: date) -> Iterator[Path]:
    """The files of the days asked for in a temporary folder, one `dt=…` folder per day."""
    with tempfile.TemporaryDirectory(prefix="assetgen-costs-") as parent:
        folder = Path(parent) / "costs"
        folder.mkdir()
        for name, data in read_each(store, _names(store, since, today)):
            copy = folder / name.removeprefix(COSTS)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(data)
        yield folder


def _names(store: ObjectStore, since: date, today: date) -> Iterator[str]:
    for prefix in _prefixes(since, today):
        for found in store.list(prefix):
            day, _, file = found.name.removeprefix(f"{COSTS}dt=").partition("/")
            if file.endswith(".parquet") and "/" not in file and day >= since.isoformat():
                yield found.name


def _prefixes(since: date, today: date) -> list[str]:
    """Month by month, so that older folders are not even listed."""
    last = today + timedelta(days=1)
    months = (last.year - since.year) * 12 + last.month - since.month + 1
    if months > _MANY_MONTHS:
        return [f"{COSTS}dt="]
    numbers = (since.year * 12 + since.month - 1 + offset for offset in range(months))
    return [f"{COSTS}dt={number // 12:04d}-{number % 12 + 1:02d}-" for number in numbers]


def _usd(micros: int) -> str:
    # Not `Money`: a sum over years may pass what one amount may be.
    return f"{micros // MICROS_PER_USD}.{micros % MICROS_PER_USD:06d}"


def _duckdb() -> Any:  # noqa: ANN401 - an optional library
    try:
        import duckdb  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ExtraMissing("this needs DuckDB, which is not installed") from error
    module: ModuleType = duckdb
    return module
