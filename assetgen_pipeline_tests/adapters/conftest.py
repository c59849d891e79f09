"""What the tests of several adapters need."""

import pytest

from assetgen_pipeline.testing.provider_stub import ProviderStub


@pytest.fixture
def stub():
    with ProviderStub() as made:
        yield made
