"""The rollout as it stands in the bucket."""

from datetime import timedelta

import pytest

from assetgen_pipeline.domain.errors import ObjectChanged
from assetgen_pipeline.domain.lanes import CANDIDATE, STABLE
from assetgen_pipeline.domain.rollout import (
    ROLLOUT_OBJECT,
    Candidate,
    Rollout,
    RolloutInvalid,
    WantedRollout,
    roll_back,
    set_rollout,
)
from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.stages.rollout import (
    choose_lane,
    judge_rollout,
    read_rollout,
    write_rollout,
)
from assetgen_pipeline.testing.object_store import InMemoryObjectStore
from assetgen_pipeline_tests.builders import BATCH_ID, BUCKET, NOW, OWNER
from assetgen_pipeline_tests.stage_bench import CATALOGUE, MODEL, PROVIDER, Bench, some_requests

NEW = Candidate(provider=PROVIDER, model="by-parts")
DEPLOYMENT = Deployment(
    catalogue=CATALOGUE, provider=PROVIDER, model=MODEL, open_provider=None, open_fetcher=None
)


def put(bench, rollout):
    stored = read_rollout(bench.store)
    write_rollout(rollout, generation=stored.generation, store=bench.store)
    return rollout


def everybody():
    return set_rollout(
        Rollout(),
        WantedRollout(candidate=NEW, percent=100, by="ann"),
        verdict=None,
        known_since=None,
        shortest=timedelta(0),
        now=NOW,
    )


def lane(bench):
    chosen = choose_lane(BATCH_ID, store=bench.store, deployment=DEPLOYMENT)
    return chosen.lane, chosen.model


def test_without_an_object_there_is_no_candidate():
    bench = Bench()

    assert read_rollout(bench.store).rollout == Rollout()
    assert lane(bench) == (STABLE, MODEL)


def test_a_batch_goes_where_its_owner_is():
    bench = Bench()
    put(bench, everybody())

    assert lane(bench) == (CANDIDATE, "by-parts")


def test_a_rollback_counts_from_the_next_batch_on():
    bench = Bench()
    put(bench, roll_back(put(bench, everybody()), by="ann", now=NOW))

    assert lane(bench) == (STABLE, MODEL)


@pytest.mark.parametrize("before", [Rollout(), everybody()])
def test_a_batch_that_has_a_hold_keeps_its_lane_whatever_changes(before):
    bench = Bench()
    put(bench, before)
    first = choose_lane(BATCH_ID, store=bench.store, deployment=DEPLOYMENT)
    batch = bench.open()
    held = bench.reserve(batch, model=first.model).model_copy(update={"lane": first.lane})
    bench.keep(batch, "budget_hold", held)

    put(bench, Rollout() if before.candidate else everybody())

    assert lane(bench) == (first.lane, first.model)


def test_an_object_that_cannot_be_read_stops_the_batch_instead_of_guessing():
    bench = Bench()
    bench.store.write(ROLLOUT_OBJECT, b"{", content_type="application/json")

    with pytest.raises(RolloutInvalid):
        lane(bench)


def test_of_two_operators_at_once_one_is_told():
    bench = Bench()
    seen = read_rollout(bench.store)
    put(bench, everybody())

    with pytest.raises(ObjectChanged):
        write_rollout(Rollout(), generation=seen.generation, store=bench.store)


def test_a_rollout_that_is_written_anew_while_it_is_read_is_read_again():
    class Changing(InMemoryObjectStore):
        """Writes the object anew between the first stat and read."""

        changes = 1

        def read(self, name, *, generation=None):
            if self.changes:
                self.changes -= 1
                self.write(name, Rollout(salt="new").model_dump_json().encode(), content_type="x")
            return super().read(name, generation=generation)

    store = Changing(BUCKET)
    store.write(ROLLOUT_OBJECT, Rollout().model_dump_json().encode(), content_type="x")

    assert read_rollout(store).rollout.salt == "new"


async def test_the_lanes_are_judged_by_what_they_did_since_the_percentage_stands():
    bench = Bench()
    batch = bench.open(*some_requests(30))
    await bench.generate(batch, lane=CANDIDATE)
    bench.clock.advance(timedelta(hours=1))
    put(bench, everybody().model_copy(update={"history": ()}))
    after = bench.open(*some_requests(2, prompt="a later kitchen"), batch_id=f"{OWNER}.x.01234567")
    await bench.generate(after, lane=STABLE)

    verdict = judge_rollout(read_rollout(bench.store), ledger=bench.ledger)

    assert verdict.candidate.images == 0
    assert (verdict.stable.images, verdict.stable.delivered) == (1, 1)


def test_without_a_candidate_there_is_nothing_to_judge():
    bench = Bench()

    assert judge_rollout(read_rollout(bench.store), ledger=bench.ledger) is None
