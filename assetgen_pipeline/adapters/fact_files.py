"""Cost facts as Parquet files: their schemas, writing them, summing them.

Arrow reads and writes memory of its own here, never a Python object: its threads would
release that object whenever they come to it, and one that does so while the interpreter
ends aborts the process (`terminate called without an active exception`).
"""

import json
from collections.abc import Sequence
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
import pyarrow.parquet as pq

from assetgen_pipeline.domain.cost_facts import FACT_COLUMNS, Column, Fact
from assetgen_pipeline.domain.money import Money

_TYPES = {
    "date": pa.date32(),
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "boolean": pa.bool_(),
    "decimal(18,6)": pa.decimal128(18, 6),
    "timestamp": pa.timestamp("us", tz="UTC"),
}


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """The columns as the files hold them: `dt` stands in the path only, as Hive readers expect."""
    return pa.schema(
        [
            pa.field(column.name, _TYPES[column.type], metadata={"description": column.description})
            for column in columns
            if column.name != "dt"
        ]
    )


FACTS = schema_of(FACT_COLUMNS)


def file_of(
    rows: Sequence[Fact], columns: Sequence[Column], *, unlike: bytes | None
) -> bytes | None:
    """The rows as a file; `None` where a stored one holds them already."""
    table = _as_table(rows, schema_of(columns))
    present = None if unlike is None else _read(unlike)
    if present is not None and present.equals(table):
        return None
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def sum_of(data: bytes, column: str) -> Money | None:
    """What a file's column of micros sums to; `None` where it cannot be read."""
    table = _read(data, [column])
    return None if table is None else Money(pc.sum(table[column], min_count=0).as_py())


def _as_table(rows: Sequence[Fact], schema: pa.Schema) -> pa.Table:
    """The rows as a table, by way of JSON.

    `Table.from_pylist` imports pandas, only to ask whether a value is one of its own (and
    `read_table` does, by way of datasets): 50 MB and most of a second in every run.
    """
    if not rows:
        return schema.empty_table()
    plain = pa.schema(
        [pa.field(f.name, f.type if _in_json(f.type) else pa.string()) for f in schema]
    )
    lines = "\n".join(
        json.dumps({f.name: _plain(row[f.name]) for f in schema}, default=str) for row in rows
    )
    options = pj.ParseOptions(explicit_schema=plain)
    read = pj.read_json(_in_arrow(lines.encode()), parse_options=options)
    columns = [pc.cast(read[field.name], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _in_json(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, date) else value


def _read(data: bytes, columns: list[str] | None = None) -> pa.Table | None:
    """What a file holds; one that cannot be read counts as absent, to be written anew."""
    try:
        return pq.ParquetFile(_in_arrow(data)).read(columns=columns)
    except pa.ArrowInvalid:
        return None


def _in_arrow(data: bytes) -> pa.BufferReader:
    """A reader of a copy that Arrow owns."""
    copy = pa.BufferOutputStream()
    copy.write(data)
    return pa.BufferReader(copy.getvalue())
