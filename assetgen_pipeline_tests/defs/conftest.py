"""What tests of the Dagster shell share."""

import dagster as dg
import pytest

from assetgen_pipeline_tests.fake_deployment import FakeDeployment


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def deployment(instance):
    return FakeDeployment(instance)
