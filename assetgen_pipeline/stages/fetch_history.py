"""What the fetch steps of one run tell each other: time spent, and hosts given up.

Each step may run in a process of its own, so it stands in the bucket. It belongs to one run:
a re-execution begins with the whole time again, because what stopped the run before it may
have been what held the fetches up.
"""

from pydantic import Field

from assetgen_pipeline.domain.errors import ObjectChanged, ObjectMissing
from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.ports.object_store import ObjectStore


class FetchHistory(Value):
    """What the steps of a run have learnt so far."""

    spent_s: float = Field(default=0.0, ge=0)
    """How long steps were at work, waiting for one another not counted."""
    failures: dict[str, int] = Field(default_factory=dict)
    """URLs that failed in a row, by host; hosts that never did are left out."""


def read_history(name: str, *, store: ObjectStore) -> FetchHistory:
    """What earlier steps learnt.

    Raises:
        StorageUnavailable: the bucket cannot be reached.
    """
    return _read(name, store=store)[0]


def add_to_history(name: str, learnt: FetchHistory, *, store: ObjectStore) -> None:
    """Add what one step learnt; of a host that two steps asked, the newer word counts.

    Raises:
        StorageUnavailable: the bucket cannot be reached.
    """
    while True:
        before, generation = _read(name, store=store)
        failures = before.failures | learnt.failures
        after = FetchHistory(
            spent_s=before.spent_s + learnt.spent_s,
            failures={host: count for host, count in failures.items() if count},
        )
        data = after.model_dump_json().encode()
        try:
            store.write(name, data, content_type="application/json", if_generation=generation)
        except ObjectChanged:
            continue
        return


def _read(name: str, *, store: ObjectStore) -> tuple[FetchHistory, int]:
    while (info := store.stat(name)) is not None:
        try:
            data = store.read(name, generation=info.generation)
        except ObjectMissing:
            continue
        return FetchHistory.model_validate_json(data), info.generation
    return FetchHistory(), 0
