"""What a deployment follows where nobody chose otherwise."""

from dataclasses import FrozenInstanceError

import pytest

from assetgen_pipeline.stages.deployment import Deployment
from assetgen_pipeline.testing.providers import ScriptedProvider
from assetgen_pipeline.testing.references import ScriptedReferenceFetcher
from assetgen_pipeline_tests.stage_bench import CATALOGUE, MODEL, PROVIDER


def a_deployment():
    return Deployment(
        catalogue=CATALOGUE,
        provider=PROVIDER,
        model=MODEL,
        open_provider=lambda provider, model: ScriptedProvider(),
        open_fetcher=lambda: ScriptedReferenceFetcher({}),
    )


def test_the_defaults_are_those_of_the_public_contract():
    chosen = a_deployment()

    assert (chosen.generation_concurrency, chosen.shard_rows) == (8, 250)
    assert (chosen.reference_chunk, chosen.fetch_policy.batch_deadline_s) == (500, 1800)
    assert (chosen.csv_limits.max_rows, chosen.max_runs_per_tick) == (10_000, 20)
    assert chosen.inbox_owners == frozenset()


def test_a_deployment_does_not_change_while_it_runs():
    with pytest.raises(FrozenInstanceError):
        a_deployment().shard_rows = 1
