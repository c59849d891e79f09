"""The load test, small: the real stack, servers that misbehave, and a verdict."""

import json
import sys

import pytest

from assetgen_pipeline.cli.app import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_a_small_load_test_passes_every_bar_and_sees_nothing_of_the_machines_deployment(
    tmp_path, monkeypatch, capsys, kept_environment
):
    kept_environment["ASSETGEN_LEDGER_URL"] = "postgresql+psycopg://no:no@127.0.0.1:1/no"
    kept_environment["ASSETGEN_BUCKET"] = "a-bucket-of-production"
    home = tmp_path / "home"
    words = ["loadtest", "--json", "--rows", "24", "--latency-s", "0.5", "--home", str(home)]
    monkeypatch.setattr(sys, "argv", ["assetgen", *words])

    with pytest.raises(SystemExit) as ended:
        main()

    answer = json.loads(capsys.readouterr().out)
    assert [bar for bar in answer["bars"] if not bar["passed"]] == []
    assert not ended.value.code
    figures = answer["figures"]
    assert figures["delivered"] == figures["images"] == 24
    assert figures["hanging_requests"] == 12
    assert figures["peak_memory_mb"] > 0
