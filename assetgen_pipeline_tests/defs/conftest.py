"""What tests of the Dagster shell share."""

import dagster as dg
import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage

from assetgen_pipeline.defs.workers import worker_identity
from assetgen_pipeline_tests.fake_deployment import FakeDeployment


@pytest.fixture(autouse=True)
def no_instance_of_another_test():
    """Loading a code location in this process leaves its instance's storage to whoever loads next."""
    with set_defs_state_storage(None):
        yield


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def gone():
    """A worker that is gone: it had the number of this process, and another start."""
    host, boot, pid, _started = worker_identity().split("/")
    return f"{host}/{boot}/{pid}/1"


@pytest.fixture
def deployment(instance):
    return FakeDeployment(instance)
