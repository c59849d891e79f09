"""A batch in its lane: tags, model, cost facts, and the checks that warn."""

from datetime import timedelta
from typing import ClassVar

import pytest

from assetgen_pipeline.domain.errors import ModelUnavailable
from assetgen_pipeline.domain.generation import ErrorKind, ProviderError, ProviderImage
from assetgen_pipeline.domain.money import Money
from assetgen_pipeline.domain.pricing import Catalogue, ModelPrice
from assetgen_pipeline.domain.rollout import (
    ROLLOUT_OBJECT,
    Candidate,
    Rollout,
    WantedRollout,
    roll_back,
    set_rollout,
)
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline_tests.builders import BATCH_ID, NOW, a_csv
from assetgen_pipeline_tests.fake_deployment import FakeDeployment

CATALOGUE = Catalogue(
    as_of="2026-01",
    source="made up",
    default_models={"local": "old"},
    models=(
        ModelPrice(provider="local", model="old", image_usd="0.002"),
        ModelPrice(provider="local", model="new", image_usd="0.002"),
    ),
)
NEW = Candidate(provider="local", model="new")
LATER = "studio.later.89abcdef"


def rows(count, what="scene"):
    return a_csv(*([f"S{n}", f"{what} {n}"] for n in range(count)))


@pytest.fixture
def rehearsal(instance):
    return FakeDeployment(instance, catalogue=CATALOGUE, model="old")


def begin(rehearsal, percent):
    rollout = set_rollout(
        Rollout(),
        WantedRollout(candidate=NEW, percent=percent, by="ann"),
        verdict=None,
        known_since=None,
        shortest=timedelta(0),
        now=NOW,
    )
    put(rehearsal, rollout)
    return rollout


def put(rehearsal, rollout):
    data = rollout.model_dump_json().encode()
    rehearsal.store.write(ROLLOUT_OBJECT, data, content_type="application/json")


def tags(rehearsal, result):
    return rehearsal.instance.get_run_by_id(result.run_id).tags


def check(result, name):
    [found] = [e for e in result.get_asset_check_evaluations() if e.check_name == name]
    return found.passed, {label: value.value for label, value in found.metadata.items()}


def models_asked(rehearsal):
    return {request.image.model for request in rehearsal.provider.requests}


@pytest.mark.parametrize(
    ("percent", "lane", "model"), [(0, "stable", "old"), (100, "candidate", "new")]
)
def test_the_lane_is_on_the_run_the_attempts_and_the_model_that_is_asked(
    rehearsal, percent, lane, model
):
    begin(rehearsal, percent)
    rehearsal.upload(rows(2))

    result = rehearsal.run()

    assert result.success
    assert tags(rehearsal, result)["assetgen/lane"] == lane
    assert {attempt.lane for attempt in rehearsal.ledger.attempts(BATCH_ID)} == {lane}
    assert models_asked(rehearsal) == {model}


def test_a_retry_after_a_rollback_finishes_on_the_lane_it_has(instance):
    no_key = ProviderError("the key is refused", kind=ErrorKind.AUTH)
    provider = ScriptedProvider({"S1/1": [no_key]})
    rehearsal = FakeDeployment(
        instance, provider=provider, catalogue=CATALOGUE, model="old", generation_concurrency=1
    )
    rollout = begin(rehearsal, 100)
    rehearsal.upload(rows(3))
    rehearsal.run()
    put(rehearsal, roll_back(rollout, by="ann", now=NOW))
    rehearsal.provider = ScriptedProvider()

    again = rehearsal.run()
    rehearsal.upload(rows(1, "another"), batch_id=LATER)
    later = rehearsal.run(batch_id=LATER)

    assert tags(rehearsal, again)["assetgen/lane"] == "candidate"
    assert {a.model for a in rehearsal.ledger.attempts(BATCH_ID)} == {"new"}
    assert tags(rehearsal, later)["assetgen/lane"] == "stable"


def test_a_rollout_that_cannot_be_read_fails_the_run_before_anything_is_held(rehearsal):
    rehearsal.store.write(ROLLOUT_OBJECT, b"{", content_type="application/json")
    rehearsal.upload(rows(1))

    result = rehearsal.run()

    assert not result.success
    assert rehearsal.spent_micros() == (0, 0)
    assert rehearsal.asked() == []


def test_without_a_rollout_the_gate_is_open(rehearsal):
    rehearsal.upload(rows(1))

    passed, metadata = check(rehearsal.run(), "canary_gate")

    assert (passed, metadata) == (True, {"rollout": "none is running"})


def test_the_gate_warns_of_a_candidate_that_fails_more_and_stops_no_batch(instance):
    refused = ProviderError("refused", kind=ErrorKind.CONTENT_BLOCKED)
    fails = {f"S{n}/1": [refused] for n in range(0, 40, 4)}
    rehearsal = FakeDeployment(instance, catalogue=CATALOGUE, model="old")
    begin(rehearsal, 0)
    rehearsal.upload(rows(40))
    rehearsal.run()
    put(
        rehearsal,
        Rollout.model_validate_json(rehearsal.store.read(ROLLOUT_OBJECT)).model_copy(
            update={"owners": ("studio",)}
        ),
    )
    rehearsal.provider = ScriptedProvider(fails)
    rehearsal.upload(rows(40, "another"), batch_id=LATER)

    result = rehearsal.run(batch_id=LATER)

    passed, metadata = check(result, "canary_gate")
    assert result.success
    assert not passed
    assert metadata["against"].startswith("25.0% of the candidate's images fail")
    assert (metadata["stable_images"], metadata["candidate_images"]) == (40, 40)
    assert (metadata["stable_latency_p50_ms"], metadata["candidate_latency_p95_ms"]) == (0, 0)


def test_a_bill_that_parts_from_the_list_warns_and_stops_no_batch(instance):
    dear = ProviderImage(data=b"png", cost=Money(2_500), cost_basis="usage")
    rehearsal = FakeDeployment(
        instance, catalogue=CATALOGUE, model="old", provider=ScriptedProvider(default=[dear])
    )
    rehearsal.upload(rows(2))

    result = rehearsal.run()

    passed, metadata = check(result, "estimate_close")
    assert result.success
    assert not passed
    assert metadata["parted_percent"] == 25.0
    assert (metadata["expected_micros"], metadata["actual_micros"]) == (4_000, 5_000)


class Leaving(Catalogue):
    """A catalogue that an operator changes while a batch runs."""

    gone: ClassVar[list[str]] = []

    def price(self, provider, model):
        if model in self.gone:
            raise ModelUnavailable("no such model")
        return super().price(provider, model)


class LastWords(ScriptedProvider):
    """Its model leaves the catalogue once everything is generated."""

    async def aclose(self):
        Leaving.gone.append("old")


def test_a_model_that_left_the_catalogue_meanwhile_warns_instead_of_failing(instance):
    rehearsal = FakeDeployment(
        instance,
        provider=LastWords(),
        catalogue=Leaving(**CATALOGUE.model_dump()),
        model="old",
    )
    rehearsal.upload(rows(1))

    result = rehearsal.run()

    passed, metadata = check(result, "estimate_close")
    assert result.success
    assert (passed, metadata) == (False, {"found": "provider-config: no such model"})
