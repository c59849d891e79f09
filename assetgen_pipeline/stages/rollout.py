"""The rollout as it stands in the bucket: read, changed by one operator at a time, judged."""

from dataclasses import dataclass
from datetime import datetime

from assetgen_pipeline.domain.bucket_layout import owner_of
from assetgen_pipeline.domain.errors import ObjectMissing
from assetgen_pipeline.domain.image_request import Value
from assetgen_pipeline.domain.lanes import CANDIDATE, Verdict, judge
from assetgen_pipeline.domain.rollout import ROLLOUT_OBJECT, Rollout, parse_rollout
from assetgen_pipeline.ports.ledger import Ledger
from assetgen_pipeline.ports.object_store import ObjectStore
from assetgen_pipeline.stages.batch_files import read_artifact
from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.stages.reserve_budget import BudgetHold


class LaneChoice(Value):
    """Whom a batch pays, and in which lane."""

    provider: str
    model: str
    lane: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRollout:
    """The rollout, which generation of its object that is, and when that was written."""

    rollout: Rollout
    generation: int
    written_at: datetime | None


def read_rollout(store: ObjectStore) -> StoredRollout:
    """The rollout now; none where the object is absent.

    Raises:
        RolloutInvalid: the object cannot be read.
    """
    info = store.stat(ROLLOUT_OBJECT)
    if info is None:
        return StoredRollout(rollout=Rollout(), generation=0, written_at=None)
    try:
        data = store.read(ROLLOUT_OBJECT, generation=info.generation)
    except ObjectMissing:
        # Written anew between the two calls.
        return read_rollout(store)
    return StoredRollout(
        rollout=parse_rollout(data), generation=info.generation, written_at=info.updated_at
    )


def write_rollout(rollout: Rollout, *, generation: int, store: ObjectStore) -> None:
    """Put a changed rollout in the place of the generation it was made from.

    Raises:
        ObjectChanged: somebody else changed it meanwhile.
    """
    data = rollout.model_dump_json(indent=1).encode()
    store.write(ROLLOUT_OBJECT, data, content_type="application/json", if_generation=generation)


def choose_lane(batch_id: str, *, store: ObjectStore, deployment: Deployment) -> LaneChoice:
    """The lane that the batch has already, else the one that its owner is in now.

    Raises:
        RolloutInvalid: the rollout cannot be read.
    """
    held = read_artifact(batch_id, "budget_hold", BudgetHold, store=store)
    if held is not None:
        return LaneChoice(provider=held.provider, model=held.model, lane=held.lane)
    rollout = read_rollout(store).rollout
    lane = rollout.lane_of(owner_of(batch_id))
    if lane == CANDIDATE and rollout.candidate is not None:
        chosen = rollout.candidate
        return LaneChoice(provider=chosen.provider, model=chosen.model, lane=lane)
    return LaneChoice(provider=deployment.provider, model=deployment.model, lane=lane)


def judge_rollout(stored: StoredRollout, *, ledger: Ledger) -> Verdict | None:
    """What the lanes did since the percentage stands; `None` without a candidate."""
    rollout = stored.rollout
    since = rollout.unchanged_since or stored.written_at
    if rollout.candidate is None or since is None:
        return None
    return judge(
        ledger.lane_figures(since),
        provider=rollout.candidate.provider,
        model=rollout.candidate.model,
    )
