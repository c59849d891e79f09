"""What a machine lacks is said before a batch is claimed, by the name of the setting."""

import pytest

from assetgen_pipeline.adapters.gcs_url_signer import local_signing_key
from assetgen_pipeline.settings import SettingsInvalid, load_settings
from assetgen_pipeline.wiring.readiness import require_prices, require_ready

ABSENT = "/nowhere/file"
MISSING = [
    ({"ASSETGEN_SIGNER": "key_file"}, "GOOGLE_APPLICATION_CREDENTIALS"),
    (
        {"ASSETGEN_SIGNER": "key_file", "GOOGLE_APPLICATION_CREDENTIALS": ABSENT},
        "GOOGLE_APPLICATION_CREDENTIALS",
    ),
    (
        {"ASSETGEN_BUCKET": "acme", "GOOGLE_APPLICATION_CREDENTIALS": ABSENT},
        "GOOGLE_APPLICATION_CREDENTIALS",
    ),
    ({"ASSETGEN_CATALOGUE": ABSENT}, "ASSETGEN_CATALOGUE"),
    ({"ASSETGEN_PROVIDER": "gemini", "GEMINI_API_KEY": " "}, "GEMINI_API_KEY"),
    ({"ASSETGEN_PROVIDER": "openai"}, "OPENAI_API_KEY"),
]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    monkeypatch.setenv("ASSETGEN_HOME", str(tmp_path))
    names = ["APPLICATION_CREDENTIALS", "GENAI_USE_VERTEXAI"]
    for name in ["GEMINI_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL", *names]:
        monkeypatch.delenv(name if "_API_" in name or "_BASE_" in name else f"GOOGLE_{name}", False)


def settings_of(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings()


@pytest.mark.parametrize(("variables", "named"), MISSING)
def test_what_is_missing_is_named(monkeypatch, variables, named):
    with pytest.raises(SettingsInvalid) as refused:
        require_ready(settings_of(monkeypatch, variables))

    assert str(refused.value).startswith(f"{named}: ")
    assert "; " not in str(refused.value)


def test_all_that_is_missing_is_named_at_once(monkeypatch):
    variables = {"ASSETGEN_SIGNER": "key_file", "ASSETGEN_PROVIDER": "openai"}

    with pytest.raises(SettingsInvalid, match=r"OPENAI_API_KEY: .*; GOOGLE_APPLICATION_CRED"):
        require_ready(settings_of(monkeypatch, variables))


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"GOOGLE_APPLICATION_CREDENTIALS": ABSENT},
        {"ASSETGEN_BUCKET": "acme"},
        {"ASSETGEN_PROVIDER": "gemini", "GEMINI_API_KEY": "key"},
        {"ASSETGEN_PROVIDER": "gemini", "GOOGLE_GENAI_USE_VERTEXAI": "1"},
        {"ASSETGEN_PROVIDER": "openai", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"},
    ],
    ids=str,
)
def test_what_needs_no_more_is_let_through(monkeypatch, variables):
    require_ready(settings_of(monkeypatch, variables))


def test_a_key_file_that_can_sign_is_let_through(monkeypatch, tmp_path):
    local_signing_key(tmp_path)
    key = {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "signing-key.json")}

    require_ready(settings_of(monkeypatch, {"ASSETGEN_BUCKET": "acme", **key}))


def test_a_price_needs_neither_key_nor_signer(monkeypatch):
    variables = {"ASSETGEN_SIGNER": "key_file", "ASSETGEN_PROVIDER": "gemini"}

    require_prices(settings_of(monkeypatch, variables))
    with pytest.raises(SettingsInvalid, match="ASSETGEN_CATALOGUE"):
        require_prices(settings_of(monkeypatch, {"ASSETGEN_CATALOGUE": ABSENT}))
