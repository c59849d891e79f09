"""Settings: read once, checked wholly, and refused by name."""

from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from assetgen_pipeline.settings import (
    SettingsInvalid,
    duration,
    environment_for_children,
    load_settings,
)


@pytest.fixture
def environment(monkeypatch):
    def choose(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return load_settings()

    return choose


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("5m", timedelta(minutes=5)),
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        (" 7 d ", timedelta(days=7)),
    ],
)
def test_durations_are_a_number_and_a_unit(text, expected):
    assert duration(text) == expected


@pytest.mark.parametrize("text", ["7", "d", "-1d", "1w", "1.5h", "1h30m", ""])
def test_text_that_is_no_duration_is_left_for_the_model(text):
    assert duration(text) == text


def test_the_defaults_are_those_of_the_contract():
    settings = load_settings()

    assert settings.bucket == "assetgen-local"
    assert settings.provider == "local"
    assert str(settings.daily_limit_usd) == "10"
    assert settings.url_ttl == timedelta(days=7)
    assert settings.url_refresh_margin == timedelta(minutes=5)
    assert (settings.max_rows, settings.max_runs_per_tick, settings.shard_rows) == (10_000, 20, 250)
    assert (settings.reference_concurrency, settings.reference_retries) == (4, 2)
    assert (settings.generation_concurrency, settings.generation_pool) == (8, 2)
    assert settings.uses_local_bucket


def test_durations_networks_and_owners_are_read_from_text(environment):
    settings = environment(
        ASSETGEN_URL_TTL="12h",
        ASSETGEN_REFERENCE_ALLOWED_NETWORKS="10.0.0.0/8, fd00::/8,",
        ASSETGEN_INBOX_OWNERS="ada, ben,",
    )

    assert settings.url_ttl == timedelta(hours=12)
    assert settings.reference_allowed_networks == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert settings.inbox_owners == {"ada", "ben"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ASSETGEN_MAX_ROWS", "abc"),
        ("ASSETGEN_MAX_ROWS", "0"),
        ("ASSETGEN_URL_TTL", "8d"),
        ("ASSETGEN_URL_TTL", "0s"),
        ("ASSETGEN_URL_TTL", "soon"),
        ("ASSETGEN_REFERENCE_CONCURRENCY", "5"),
        ("ASSETGEN_REFERENCE_RETRIES", "3"),
        ("ASSETGEN_REFERENCE_ALLOWED_NETWORKS", "10.0.0.1/8"),
        ("ASSETGEN_REFERENCE_ALLOWED_NETWORKS", "intranet"),
        ("ASSETGEN_BUDGET_TIME_ZONE", "Mars/Olympus"),
        ("ASSETGEN_BUDGET_TIME_ZONE", "../../etc/passwd"),
        ("ASSETGEN_PROVIDER", "midjourney"),
        ("ASSETGEN_DAILY_LIMIT_USD", "-1"),
        ("ASSETGEN_DAILY_LIMIT_USD", "NaN"),
        ("ASSETGEN_DAILY_LIMIT_USD", "lots"),
        ("ASSETGEN_LOCAL_FAILURE_RATE", "1.5"),
        ("ASSETGEN_INBOX_OWNERS", "ada,Not An Owner"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(environment, name, value):
    with pytest.raises(SettingsInvalid) as caught:
        environment(**{name: value})

    assert str(caught.value).startswith(f"{name}: ")
    assert "environment variable" in caught.value.fix


def test_all_wrong_values_are_named_at_once(environment):
    with pytest.raises(SettingsInvalid) as caught:
        environment(ASSETGEN_MAX_ROWS="abc", ASSETGEN_SIGNER="me", ASSETGEN_URL_TTL="soon")

    assert all(f"ASSETGEN_{n}: " in str(caught.value) for n in ("MAX_ROWS", "SIGNER", "URL_TTL"))


def test_home_is_absolute_wherever_the_process_stands(environment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert environment(ASSETGEN_HOME="state").home == tmp_path / "state"
    assert environment(ASSETGEN_HOME="~/state").home == Path.home() / "state"


def test_settings_do_not_change():
    settings = load_settings()

    with pytest.raises(ValidationError, match="frozen"):
        settings.max_rows = 5


def test_secrets_do_not_show(environment):
    settings = environment(GEMINI_API_KEY="AIza-secret", OPENAI_API_KEY="sk-secret")

    assert settings.gemini_api_key.get_secret_value() == "AIza-secret"
    assert "secret" not in repr(settings).replace("SecretStr", "")


@pytest.mark.parametrize(
    ("variables", "local"),
    [
        ({}, True),
        ({"ASSETGEN_BUCKET": "acme-images"}, False),
        ({"STORAGE_EMULATOR_HOST": "http://127.0.0.1:9"}, False),
    ],
)
def test_the_local_bucket_stands_in_only_where_nothing_else_is_named(environment, variables, local):
    assert environment(**variables).uses_local_bucket is local


def test_children_share_home_and_dagsters_home(environment, tmp_path):
    settings = environment(ASSETGEN_HOME=str(tmp_path), OPENAI_API_KEY="sk-1")

    children = environment_for_children(settings)

    assert children["ASSETGEN_HOME"] == str(tmp_path)
    assert children["DAGSTER_HOME"] == str(tmp_path / "dagster")
    assert children["OPENAI_API_KEY"] == "sk-1"
