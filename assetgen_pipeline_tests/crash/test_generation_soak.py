"""The soak of generation in its short form."""

import pytest

from assetgen_pipeline_tests.generation_soak import FORMS, soak

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def test_a_bad_provider_and_a_worker_killed_again_and_again_lose_and_double_nothing(
    tmp_path, monkeypatch
):
    rows, kills = FORMS["short"]

    figures = soak(tmp_path, rows=rows, kills=kills, seed=7, set_variable=monkeypatch.setenv)

    assert figures["images"]["delivered"] > rows * 0.8
