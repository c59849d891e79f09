"""Cost facts as Parquet in the bucket, and the sums that `assetgen costs` prints."""

import io
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from assetgen_pipeline.domain.bucket_layout import BatchFolder
from assetgen_pipeline.ports import CostFacts, ObjectStore

PREFIX = "costs/"
SCHEMA = pa.schema(
    [
        ("dt", pa.date32()),
        ("batch_id", pa.string()),
        ("owner", pa.string()),
        ("scene_id", pa.string()),
        ("row_number", pa.int32()),
        ("variant", pa.int32()),
        ("provider", pa.string()),
        ("model", pa.string()),
        ("status", pa.string()),
        ("attempts", pa.int32()),
        ("cost_micros", pa.int64()),
        ("cost_usd", pa.decimal128(18, 6)),
        ("cost_basis", pa.string()),
        ("price_version", pa.string()),
        ("lane", pa.string()),
        ("spend_date", pa.date32()),
        ("budget_date", pa.date32()),
        ("latency_ms", pa.int32()),
        ("created_at", pa.timestamp("us", tz="UTC")),
        ("run_id", pa.string()),
        ("image_uri", pa.string()),
    ]
)
_MICROS = 1_000_000


class ParquetCostFacts(CostFacts):
    """Facts under `costs/dt=…/`, one file per batch and budget day."""

    def __init__(self, store: ObjectStore) -> None:
        """Keep the facts in this bucket."""
        self._store = store

    def publish(
        self, batch_id: str, budget_date: date, rows: Iterable[Mapping[str, object]]
    ) -> str:
        """Write one batch's facts, replacing its file, and return the object's name.

        The column `dt` stands in the path only, as Hive readers expect.
        """
        columns = {name: [_cell(row[name], name) for row in rows] for name in SCHEMA.names}
        table = pa.table(columns, schema=SCHEMA).drop_columns(["dt"])
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        name = BatchFolder(batch_id).costs(budget_date.isoformat())
        self._store.write(name, sink.getvalue(), content_type="application/vnd.apache.parquet")
        return name

    def read(self, *, since: date) -> pa.Table:
        """All facts with `dt` on or after `since`, `dt` first."""
        tables = [SCHEMA.empty_table()]
        for found in self._store.list(PREFIX):
            day = _day_of(found.name)
            if day is None or day < since:
                continue
            table = pq.read_table(io.BytesIO(self._store.read(found.name)))
            days = pa.array([day] * table.num_rows, pa.date32())
            tables.append(table.add_column(0, SCHEMA.field("dt"), days).select(SCHEMA.names))
        return pa.concat_tables(tables)

    def summarize(self, by: str, *, since: date) -> list[dict[str, Any]]:
        """Images, attempts and cost per value of a column, dearest first; `cost_usd` is text."""
        table = self.read(since=since)
        delivered = [int(status == "delivered") for status in table["status"].to_pylist()]
        table = table.append_column("delivered", pa.array(delivered, pa.int64()))
        sums = table.group_by(by).aggregate(
            [
                ("cost_micros", "sum"),
                ("attempts", "sum"),
                ("delivered", "sum"),
                ("scene_id", "count"),
            ]
        )
        rows = [
            {
                by: str(row[by]),
                "images": row["scene_id_count"],
                "delivered": row["delivered_sum"],
                "attempts": row["attempts_sum"],
                "cost_usd": f"{Decimal(row['cost_micros_sum']) / _MICROS:.6f}",
            }
            for row in sums.to_pylist()
        ]
        return sorted(rows, key=lambda row: (-Decimal(row["cost_usd"]), row[by]))


def _day_of(name: str) -> date | None:
    day = name.removeprefix(PREFIX).partition("/")[0]
    return date.fromisoformat(day.removeprefix("dt=")) if day.startswith("dt=") else None


def _cell(value: object, name: str) -> object:
    if name in {"dt", "spend_date", "budget_date"}:
        return date.fromisoformat(str(value))
    if name == "cost_usd":
        return Decimal(str(value))
    if name == "created_at":
        return datetime.fromisoformat(str(value)) if value else None
    return value
