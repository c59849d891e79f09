"""Cost facts for notebooks, in one line.

    from assetgen_pipeline import costs
    facts = costs.load("acme-images", since="30d")

`docs/costs.md` lists the columns and their dtypes.
"""

from datetime import date, timedelta

import pandas as pd

from assetgen_pipeline.adapters.cost_queries import load_facts
from assetgen_pipeline.settings import load_settings
from assetgen_pipeline.wiring.bucket import open_object_store
from assetgen_pipeline.wiring.look_back import look_back


def load(bucket: str = "", *, since: str | date | timedelta = "30d") -> pd.DataFrame:
    """The facts of a bucket (`ASSETGEN_BUCKET` where none is named) from `since` on.

    `since` is a span (`"30d"`, a `timedelta`), a budget day (`"2026-11-01"`, a `date`) or an
    instant of one (a `datetime`).

    Raises:
        ValueError: `since` is text of neither kind.
        StorageUnavailable: the bucket cannot be reached.
        CostFactsUnreadable: a file is not Parquet of ours.
    """
    named = bucket.removeprefix("gs://").rstrip("/")
    settings = load_settings(**({"bucket": named} if named else {}))
    first, today = look_back(since, settings)
    with open_object_store(settings) as store:
        return load_facts(store, since=first, today=today)
