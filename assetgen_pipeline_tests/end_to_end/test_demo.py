"""The demo: everything on this machine, whatever the environment says, and nothing left running."""

import json

import pytest

from assetgen_pipeline.testing.provider_stub import ProviderStub
from assetgen_pipeline_tests.command_home import Home
from assetgen_pipeline_tests.processes import DEADLINE_S, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path / "home")
    yield made
    made.stop()


def demo(home, **settings):
    process = home.start("demo", "--once", "--json", **settings)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err.decode()
    return json.loads(out), err.decode().splitlines()


def test_a_demo_is_local_and_free_amid_the_settings_of_production_and_works_twice(home):
    with ProviderStub() as provider:
        production = {
            "ASSETGEN_PROVIDER": "gemini",
            "GEMINI_API_KEY": "real",
            "GOOGLE_GEMINI_BASE_URL": provider.url,
            "ASSETGEN_BUCKET": "production",
            "STORAGE_EMULATOR_HOST": "http://127.0.0.1:1",
            "ASSETGEN_LEDGER_URL": "postgresql+psycopg://no:no@127.0.0.1:1/no",
        }
        first, told = demo(home, **production)
        again, _told = demo(home, **production)

    assert provider.counts["requests"] == 0
    for shown, spent in ((first, "0.032000"), (again, "0.000000")):
        assert [batch["state"] for batch in shown["batches"]] == [
            "completed",
            "completed",
            "rejected",
        ]
        assert shown["batches"][0]["spent_usd"] == spent
    assert first["seconds"].keys() == {"ui", "first_image", "end"}
    assert len(told) <= 12
    assert not [line for line in told if "telemetry" in line.lower() or "warning" in line.lower()]
    # The bucket notices a moment later that nobody holds it any more.
    until(lambda: not home.processes())
