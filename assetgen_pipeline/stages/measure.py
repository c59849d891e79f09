"""Measure the bucket and the books, for metrics."""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from assetgen_pipeline.domain.errors import BatchNotFound, StatusUnreadable
from assetgen_pipeline.domain.metrics import Sample, batches_samples, sample
from assetgen_pipeline.domain.status import BatchState
from assetgen_pipeline.ports.object_store import ObjectInfo, ObjectStore
from assetgen_pipeline.stages.batch_status import read_status
from assetgen_pipeline.stages.expiry_index import indexed_within

logger = logging.getLogger(__name__)

_WITHIN = {"0h": timedelta(0), "1h": timedelta(hours=1), "24h": timedelta(hours=24)}
_READERS = 16


def measure_inbox(unclaimed: Iterable[ObjectInfo], *, now: datetime) -> list[Sample]:
    """Unclaimed CSVs: how many, and since when."""
    ages = [(now - one.updated_at).total_seconds() for one in unclaimed]
    return [
        sample("inbox_files", len(ages)),
        sample("inbox_oldest_seconds", max(0.0, max(ages, default=0.0))),
    ]


def measure_links(*, store: ObjectStore, now: datetime) -> list[Sample]:
    """Batches whose links end soon, or have ended (`0h`)."""
    ending = indexed_within(max(_WITHIN.values()), now, store=store)
    ends = {batch: min(e.life.expires_at for e in entries) for batch, entries in ending.items()}
    return [
        sample("urls_expiring_batches", sum(end - now <= left for end in ends.values()), within)
        for within, left in _WITHIN.items()
    ]


def measure_batches(batch_ids: Iterable[str], *, store: ObjectStore) -> list[Sample]:
    """The states of these batches; the log names those whose status cannot be read."""

    def state(batch_id: str) -> BatchState | None:
        try:
            return read_status(batch_id, store=store).state
        except StatusUnreadable as error:
            logger.warning("one batch is left out: %s", error)
            return None
        except BatchNotFound:
            return None

    with ThreadPoolExecutor(_READERS) as readers:
        states = list(readers.map(state, batch_ids))
    return batches_samples(found for found in states if found is not None)
